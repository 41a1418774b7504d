package engine

// Keeper is an engine that, before a rejoin destroys it, keeps aside what its data had and the primary's has not; data that simply
// follows on lost nothing.
type Keeper interface {
	// Kept tells of the last data that was replaced so; nil: there was none.
	Kept() (*Kept, error)
}

// Had says what data is that is to be replaced.
type Had struct {
	// Epoch whose data it is; 0: of none.
	Epoch int64
	// Primary: this member wrote it as the primary of that epoch, so nobody had more.
	Primary bool
}

// Kept is what data had and the primary that its member rejoined has not.
type Kept struct {
	Had
	Bytes int64
	// Dir holds it, in files from First to Last of FileBytes together; what is not Complete lacks the end.
	Dir         string
	First, Last string
	FileBytes   int64
	Complete    bool
}
