package postgresql

import (
	"cmp"
	"fmt"
	"os"
)

// change is what a step does to the files; nil for a step that is a process. Each may be interrupted anywhere: done again, it
// ends in the same way.
func (p *PostgreSQL) change(st step, w wish) func() error {
	d := p.disk
	switch st {
	case adoptInit:
		return func() error { return p.adopt(initDir) }
	case takeImport:
		return p.takeImport
	case adoptImport:
		return func() error { return p.adopt(importDir) }
	case forgetInit:
		return func() error {
			if err := d.discard(initDir); err != nil {
				return err
			}
			return d.forget("init", "bootstrap", "import")
		}
	case setAside:
		return func() error { return renameDurably(d.path(dataDir), d.path(oldDir)) }
	case dropUnproven:
		return func() error { return d.discard(dataDir) }
	case adoptCopy:
		return func() error { return renameDurably(d.path(copyDir), d.path(dataDir)) }
	case restoreOld:
		return func() error { return renameDurably(d.path(oldDir), d.path(dataDir)) }
	case finishCopy:
		return func() error {
			// The wish goes last, since it is what leads here again. A copy needs nobody to become readable.
			if err := d.drop(emptyFile, tornFile, catchFile); err != nil {
				return err
			}
			return d.drop(wishFile)
		}
	case finishRewind:
		return func() error {
			if err := saveJSON(d.note(catchFile), catchUp{Address: w.Address, System: w.System}); err != nil {
				return err
			}
			if err := d.drop(tornFile); err != nil {
				return err
			}
			return d.drop(wishFile) // last, as above
		}
	case copyInstead:
		return func() error { return p.copyInstead(w) }
	case condemn:
		return p.condemn
	case disarm:
		return func() error { return p.disarm(w) }
	}
	return nil
}

// adopt makes a new cluster the data, of which it is known before that it is not the service's yet.
func (p *PostgreSQL) adopt(name string) error {
	if err := writeDurably(p.disk.note(emptyFile), nil); err != nil {
		return err
	}
	_ = os.Remove(p.data()) // an empty folder, such as a mount leaves
	return renameDurably(p.disk.path(name), p.data())
}

// copyInstead turns the wish for a rewind that failed into one for a copy. If the rewind said how it ended, and had not begun
// to change the data, the data is whole.
func (p *PostgreSQL) copyInstead(w wish) error {
	w.Kind, w.Armed, w.Reason = wishCopy, true, "pg_rewind: "+p.disk.complaint("rewind")
	whole := p.disk.done("rewind") == failed && !rewindBegan(saidAll(p.disk.note("rewind")))
	if w.Attempts >= maxAttempts {
		w.Attempts = maxAttempts - 1 // what was spent on rewinding leaves one copy at least
	}
	if whole {
		if err := p.disk.drop(tornFile); err != nil {
			return err
		}
	}
	if err := p.disk.forget("copy"); err != nil {
		return err
	}
	if err := saveJSON(p.disk.note(wishFile), w); err != nil {
		return err
	}
	return p.disk.forget("rewind")
}

// condemn takes rewound data on which no server became readable for torn: it is never served, and copied over.
func (p *PostgreSQL) condemn() error {
	var catch catchUp
	if _, err := loadJSON(p.disk.note(catchFile), &catch); err != nil {
		return err
	}
	w := wish{Kind: wishCopy, Address: catch.Address, System: catch.System, Pod: p.config.ApplicationName, Armed: true,
		Reason: fmt.Sprintf("the server was started %d times on rewound data and never became readable", catch.Starts)}
	if err := writeDurably(p.disk.note(tornFile), nil); err != nil {
		return err
	}
	if err := p.disk.forget("copy", "rewind"); err != nil {
		return err
	}
	if err := saveJSON(p.disk.note(wishFile), w); err != nil {
		return err
	}
	return p.disk.drop(catchFile)
}

// disarm leaves a wish that is not tried again until somebody asks; what it was is kept for its attempts.
func (p *PostgreSQL) disarm(w wish) error {
	w.Armed, w.Reason = false, p.lastReason(w)
	if err := p.disk.discard(copyDir); err != nil {
		return err
	}
	if err := saveJSON(p.disk.note(wishFile), w); err != nil {
		return err
	}
	return p.disk.forget("copy", "rewind")
}

// lastReason is why the last attempt failed.
func (p *PostgreSQL) lastReason(w wish) string {
	if w.Kind == wishCopy && p.disk.done("copy") == failed {
		return "pg_basebackup: " + p.disk.complaint("copy")
	}
	return cmp.Or(w.Reason, "it was interrupted each time")
}

// prove lets go of the data that a copy took the place of.
func (p *PostgreSQL) prove() error {
	if !exists(p.disk.path(oldDir)) {
		return nil
	}
	return p.disk.discard(oldDir)
}

func saidAll(out string) string {
	raw, _ := os.ReadFile(out + ".log")
	return string(raw)
}
