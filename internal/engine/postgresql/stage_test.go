package postgresql

import (
	"testing"
)

func TestNext(t *testing.T) {
	const ok, bad = succeed, failed
	for name, c := range map[string]struct {
		s    diskState
		want step
	}{
		"nothing":                                          {diskState{}, runInit},
		"initdb was interrupted":                           {diskState{Init: true}, runInit},
		"initdb failed":                                    {diskState{Init: true, InitDone: bad}, tellInit},
		"initdb is over":                                   {diskState{Init: true, InitDone: ok, CheckDone: ok}, runBootstrap},
		"initdb is over, unchecked":                        {diskState{Init: true, InitDone: ok}, runCheck},
		"initdb is over, bad configuration":                {diskState{Init: true, InitDone: ok, CheckDone: bad}, refuseConfig},
		"initdb's folder is gone":                          {diskState{InitDone: ok}, runInit},
		"the bootstrap failed":                             {diskState{Init: true, InitDone: ok, BootstrapDone: bad}, tellInit},
		"the new cluster is ready":                         {diskState{Init: true, InitDone: ok, BootstrapDone: ok}, adoptInit},
		"the new cluster is the data":                      {diskState{Data: true, InitDone: ok, BootstrapDone: ok}, forgetInit},
		"a new cluster beside the data":                    {diskState{Data: true, Init: true, InitDone: ok, BootstrapDone: ok}, forgetInit},
		"data, unchecked":                                  {diskState{Data: true}, runCheck},
		"data, checked":                                    {diskState{Data: true, CheckDone: ok}, runServer},
		"bad configuration":                                {diskState{Data: true, CheckDone: bad}, refuseConfig},
		"only what was set aside":                          {diskState{Old: true}, restoreOld},
		"set aside beside the start of a copy":             {diskState{Old: true, Copy: true, Wish: wishCopy, Armed: true, Attempts: 1}, restoreOld},
		"a copy is wished":                                 {diskState{Data: true, CheckDone: ok, Wish: wishCopy, Armed: true}, runCopy},
		"a copy was interrupted":                           {diskState{Data: true, Copy: true, CheckDone: ok, Wish: wishCopy, Armed: true, Attempts: 2}, runCopy},
		"a copy was interrupted too often":                 {diskState{Data: true, CheckDone: ok, Wish: wishCopy, Armed: true, Attempts: maxAttempts}, disarm},
		"a copy failed":                                    {diskState{Data: true, CheckDone: ok, Wish: wishCopy, Armed: true, Attempts: 1, CopyDone: bad}, disarm},
		"a copy failed and nobody asked again":             {diskState{Data: true, CheckDone: ok, Wish: wishCopy, Attempts: 1}, runServer},
		"a copy is complete":                               {diskState{Data: true, Copy: true, CheckDone: ok, Wish: wishCopy, Armed: true, Attempts: 1, CopyDone: ok}, setAside},
		"a copy is complete, its predecessor no use":       {diskState{Data: true, Copy: true, Old: true, Wish: wishCopy, CopyDone: ok}, dropUnproven},
		"the data is aside, the copy not in its place":     {diskState{Copy: true, Old: true, Wish: wishCopy, CopyDone: ok}, adoptCopy},
		"the copy is the data":                             {diskState{Data: true, Old: true, Wish: wishCopy, CopyDone: ok}, finishCopy},
		"a complete copy that somebody removed":            {diskState{Old: true, Wish: wishCopy, CopyDone: ok}, restoreOld},
		"nothing of a complete copy and its data":          {diskState{Wish: wishCopy, CopyDone: ok}, disarm},
		"a rewind is wished":                               {diskState{Data: true, CheckDone: ok, Wish: wishRewind, Armed: true}, runRewind},
		"a rewind was interrupted":                         {diskState{Data: true, CheckDone: ok, Wish: wishRewind, Armed: true, Attempts: 1, Torn: true}, copyInstead},
		"a rewind failed":                                  {diskState{Data: true, CheckDone: ok, Wish: wishRewind, Armed: true, Attempts: 1, Torn: true, RewindDone: bad}, copyInstead},
		"a rewind is over":                                 {diskState{Data: true, CheckDone: ok, Wish: wishRewind, Armed: true, Attempts: 1, Torn: true, RewindDone: ok}, finishRewind},
		"a rewind was tried too often":                     {diskState{Data: true, CheckDone: ok, Wish: wishRewind, Armed: true, Attempts: maxAttempts}, disarm},
		"rewound data on which no server becomes readable": {diskState{Data: true, CheckDone: ok, Hopeless: true}, condemn},
		"torn data is never served":                        {diskState{Data: true, CheckDone: ok, Torn: true}, refuseTorn},
		"torn data is copied over, even if not armed":      {diskState{Data: true, CheckDone: ok, Torn: true, Wish: wishCopy, CopyDone: bad, Attempts: 1}, runCopy},
		"torn data, and copies were tried too often":       {diskState{Data: true, CheckDone: ok, Torn: true, Wish: wishCopy, Attempts: maxAttempts}, refuseTorn},
		"torn data, and the last copy was the last try":    {diskState{Data: true, CheckDone: ok, Torn: true, Wish: wishCopy, Armed: true, CopyDone: bad, Attempts: maxAttempts}, disarm},
	} {
		if got := next(c.s); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// effect is what a step does to the state, when it comes to its end; ok says whether a process ends well.
func effect(s diskState, st step, ok bool) diskState {
	end := failed
	if ok {
		end = succeed
	}
	switch st {
	case adoptInit:
		s.Data, s.Init = true, false
	case forgetInit:
		s.Init, s.InitDone, s.BootstrapDone = false, unknown, unknown
	case setAside:
		s.Data, s.Old = false, true
	case dropUnproven:
		s.Data = false
	case adoptCopy:
		s.Copy, s.Data = false, true
	case restoreOld:
		s.Old, s.Data = false, true
	case finishCopy:
		s.Hopeless = false
		s.Torn, s.Wish, s.Armed, s.Attempts = false, wishNone, false, 0
	case finishRewind:
		s.Torn, s.Wish, s.Armed, s.Attempts = false, wishNone, false, 0
	case condemn:
		s.Torn, s.Hopeless, s.Wish, s.Armed, s.Attempts, s.CopyDone, s.RewindDone = true, false, wishCopy, true, 0, unknown, unknown
	case copyInstead:
		s.Wish, s.Armed, s.RewindDone, s.CopyDone, s.Attempts = wishCopy, true, unknown, unknown, min(s.Attempts, maxAttempts-1)
	case disarm:
		s.Armed, s.Copy, s.CopyDone, s.RewindDone = false, false, unknown, unknown
	case tellInit:
		s.InitDone, s.BootstrapDone = unknown, unknown
	case runInit:
		s.Init, s.InitDone, s.BootstrapDone = true, end, unknown
	case runBootstrap:
		s.BootstrapDone = end
	case runCopy:
		s.Copy, s.CopyDone, s.Attempts = ok, end, s.Attempts+1
	case runRewind:
		s.Torn, s.RewindDone, s.Attempts = true, end, s.Attempts+1
	case runCheck:
		s.CheckDone = end
	}
	return s
}

// From every state there is, whatever processes do, the steps come to rest; and with processes that do well they lead to a
// server or to an error that only a person can remove. No step lets the last cluster go.
func TestNextComesToRest(t *testing.T) {
	bools, ends := []bool{false, true}, []outcome{unknown, succeed, failed}
	n := 0
	for bits := range 1 << 7 {
		bit := func(i int) bool { return bits&(1<<i) != 0 }
		for _, initDone := range ends {
			for _, copyDone := range ends {
				for _, rewindDone := range ends {
					for _, kind := range []wishKind{wishNone, wishCopy, wishRewind} {
						for attempts := range maxAttempts + 1 {
							for _, ok := range bools {
								s := diskState{Data: bit(0), Init: bit(1), Copy: bit(2), Old: bit(3), Torn: bit(4), Armed: bit(5), Hopeless: bit(6), InitDone: initDone,
									CopyDone: copyDone, RewindDone: rewindDone, Wish: kind, Attempts: attempts, CheckDone: succeed}
								rest(t, s, ok)
								n++
							}
						}
					}
				}
			}
		}
	}
	if n < 10000 {
		t.Errorf("only %d states", n)
	}
}

func rest(t *testing.T, first diskState, ok bool) {
	t.Helper()
	s := first
	for range 40 {
		st := next(s)
		if st == runServer || st == refuseTorn || st == refuseConfig {
			if s.Torn && st == runServer || !s.Data {
				t.Fatalf("from %+v (processes end well: %t): %s of %+v", first, ok, st, s)
			}
			return
		}
		if !ok && (st == runInit || st == runBootstrap || st == tellInit) {
			return // without a cluster it is tried again and again, each time after a pause
		}
		had := s.Data || s.Old
		if s = effect(s, st, ok); had && !s.Data && !s.Old && !s.Copy {
			t.Fatalf("from %+v: %s let the last cluster go", first, st)
		}
	}
	t.Fatalf("from %+v (processes end well: %t): no rest, now %+v, next %s", first, ok, s, next(s))
}
