package image

import "runtime"

func architecture() string { return runtime.GOARCH }
