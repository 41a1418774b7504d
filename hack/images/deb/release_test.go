package deb

import "testing"

func TestParseSources(t *testing.T) {
	text := `Types: deb
# a comment: with a colon
URIs: http://mirror.example/security
Suites: bookworm-security
Components: main

Types: deb
URIs: http://mirror.example/debian http://other.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/some.gpg
`
	got, ok := parseSources(text, "bookworm")
	if want := (stanza{"http://mirror.example/debian", "/usr/share/keyrings/some.gpg"}); !ok || got != want {
		t.Errorf("got %+v, %v", got, ok)
	}
	if got, ok := parseSources(text, "trixie"); ok {
		t.Errorf("got %+v for a release that is not there", got)
	}
}

func TestParseList(t *testing.T) {
	text := `# deb http://mirror.example/old bookworm main
deb-src http://mirror.example/source bookworm main
deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian bookworm main contrib
`
	got, ok := parseList(text, "bookworm")
	if want := (stanza{"http://mirror.example/debian", "/k.gpg"}); !ok || got != want {
		t.Errorf("got %+v, %v", got, ok)
	}
	got, ok = parseList("deb http://mirror.example/debian bookworm main", "bookworm")
	if want := (stanza{"http://mirror.example/debian", ""}); !ok || got != want {
		t.Errorf("got %+v, %v", got, ok)
	}
}
