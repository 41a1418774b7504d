package postgresql

// step is what comes next on the way to a server that runs: a change of files, or one life of the engine's process.
type step string

const (
	// Changes of files. Each can be repeated, and is over when the state of the disk says so.
	adoptInit    step = "AdoptInit"    // the new cluster becomes the data
	takeImport   step = "TakeImport"   // data that was brought along is moved to where it is prepared
	adoptImport  step = "AdoptImport"  // it becomes the data
	forgetInit   step = "ForgetInit"   // what is left of making it goes
	setAside     step = "SetAside"     // the data makes room for a copy, and is kept
	dropUnproven step = "DropUnproven" // a copy that never streamed makes room for the next; the good data stays aside
	adoptCopy    step = "AdoptCopy"    // the copy becomes the data
	restoreOld   step = "RestoreOld"   // the data that was set aside is the data again
	finishCopy   step = "FinishCopy"   // the wish for a copy is fulfilled
	finishRewind step = "FinishRewind" // the wish for a rewind is fulfilled
	copyInstead  step = "CopyInstead"  // the rewind failed: a copy is wished instead
	condemn      step = "Condemn"      // rewound data that does not become readable counts as torn, and a copy is wished
	disarm       step = "Disarm"       // not tried again before somebody asks

	// Processes.
	runInit      step = "Init"
	runBootstrap step = "Bootstrap"
	runImport    step = "Import"
	runCopy      step = "Copy"
	runRewind    step = "Rewind"
	runCheck     step = "Check"
	runServer    step = "Server"

	// tellInit says why a cluster could not be made; after that it is tried again.
	tellInit   step = "TellInit"
	tellImport step = "TellImport" // the same of data that was brought along

	// Dead ends, of which only a person leads out.
	refuseTorn   step = "RefuseTorn"
	refuseConfig step = "RefuseConfig"
)

// outcome of the last process of a kind.
type outcome string

const (
	unknown outcome = "" // it never ran, or was killed before it could say
	succeed outcome = "ok"
	failed  outcome = "failed"
)

// maxStarts is how often a server is started on rewound data that has not become readable yet. A fence in between counts too.
const maxStarts = 5

// maxAttempts is how often a copy or a rewind is tried for one wish. One that is cut short, as by the end of a pod, counts too.
const maxAttempts = 5

// diskState is all that the next step depends on.
type diskState struct {
	// Data, Init, Copy and Old: the folder is there. Data and Old hold a cluster; Old is what was set aside for a copy that
	// has not streamed yet, so while it is there Data is not proven.
	Data, Init, Copy, Old bool
	// Import: the folder of data that was brought along is there. Importing: it is to be, as this service is new.
	Import, Importing bool
	// Torn: a rewind of Data began and did not end well, so Data is no cluster any more.
	Torn bool
	// Hopeless: the server was started often enough on rewound data that never became readable.
	Hopeless bool
	// How the last process of each kind ended; CheckDone is of the configuration as it is now.
	InitDone, BootstrapDone, ImportDone, CopyDone, RewindDone, CheckDone outcome
	// What the data is to become, whether it is to be tried now, and how often it was.
	Wish     wishKind
	Armed    bool
	Attempts int
}

// next decides what comes next. It never lets data go for which there is no proven replacement.
func next(s diskState) step {
	switch {
	case s.Wish == wishCopy && s.CopyDone == succeed:
		return nextOfCopied(s)
	case !s.Data && s.Old:
		return restoreOld
	case !s.Data:
		return nextOfNothing(s)
	case s.InitDone != unknown || s.BootstrapDone != unknown || s.ImportDone != unknown || s.Init:
		return forgetInit
	}
	if st := nextOfWish(s); st != "" {
		return st
	}
	if s.Torn {
		return refuseTorn
	}
	if s.Hopeless {
		return condemn
	}
	return checkedFirst(s, runServer)
}

// checkedFirst is st, once the configuration is known to have no fault: what a server says that does not start is only in its log.
func checkedFirst(s diskState, st step) step {
	switch s.CheckDone {
	case succeed:
		return st
	case failed:
		return refuseConfig
	}
	return runCheck
}

// nextOfCopied puts a complete copy in the data's place.
func nextOfCopied(s diskState) step {
	switch {
	case !s.Copy && s.Data:
		return finishCopy
	case !s.Copy && s.Old:
		return restoreOld
	case !s.Copy:
		return disarm // somebody removed it
	case s.Data && s.Old:
		return dropUnproven
	case s.Data:
		return setAside
	default:
		return adoptCopy
	}
}

// nextOfNothing makes a cluster. One that was interrupted is made again from its beginning.
func nextOfNothing(s diskState) step {
	switch {
	case s.Import && s.ImportDone == failed:
		return tellImport
	case s.Import && s.ImportDone == succeed:
		return adoptImport
	case s.Import:
		return checkedFirst(s, runImport)
	case s.Importing:
		return takeImport
	case s.InitDone == failed || s.BootstrapDone == failed:
		return tellInit
	case !s.Init || s.InitDone != succeed:
		return runInit
	case s.BootstrapDone == succeed:
		return adoptInit
	default:
		return checkedFirst(s, runBootstrap)
	}
}

// nextOfWish replaces or rewinds data; "" when nothing is wished for, or only once more when somebody asks.
func nextOfWish(s diskState) step {
	more := s.Attempts < maxAttempts
	switch {
	case s.Wish == wishRewind && s.RewindDone == succeed:
		return finishRewind
	case s.Wish == wishRewind && (s.RewindDone == failed || s.Torn):
		return copyInstead
	case s.Wish == wishRewind && s.Armed && more:
		return runRewind
	case s.Wish == wishCopy && s.CopyDone == failed && s.Armed && !s.Torn:
		return disarm // the data is whole: serve it, until whoever knows the primary says where to copy from
	case s.Wish == wishCopy && (s.Armed || s.Torn) && more:
		return runCopy
	case s.Wish != wishNone && s.Armed:
		return disarm
	}
	return ""
}
