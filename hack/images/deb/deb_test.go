package deb

import (
	"slices"
	"testing"
)

func TestParseDepends(t *testing.T) {
	got := parseDepends(`redis-tools
  Depends: adduser
  PreDepends: libc6
 |Depends: libssl3
  Depends: <debconf-2.0>
    cdebconf
  Depends: libgcc-s1:any
  Suggests: ruby-redis
`)
	if want := []string{"adduser", "libc6", "libssl3", "libgcc-s1"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestUpstream(t *testing.T) {
	for version, want := range map[string]string{
		"5:7.0.15-1~deb12u10": "7.0.15", "8.1.1+dfsg1-3": "8.1.1", "1.2": "1.2", "2-3-4": "2-3",
	} {
		if got := upstream(version); got != want {
			t.Errorf("%s: got %s, want %s", version, got, want)
		}
	}
}
