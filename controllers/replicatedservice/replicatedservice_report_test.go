package replicatedservice

import (
	"strings"
	"testing"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
)

// Each member that stops doing its part is told of, with why, and again when it does; what happens in between is in its state.
func TestMemberTales(t *testing.T) {
	of := func(state v1alpha1.MemberState, message string) v1alpha1.ReplicatedServiceStatus {
		return v1alpha1.ReplicatedServiceStatus{Members: []v1alpha1.MemberStatus{{Name: "cache-1", State: state, Message: message}}}
	}
	for name, c := range map[string]struct {
		before, after v1alpha1.ReplicatedServiceStatus
		reason, note  string // none: nothing is told
	}{
		"it ends":                       {of("Following", ""), of("Starting", "its engine ended"), "MemberAway", "cache-1, which was Following, is Starting: its engine ended"},
		"it is silent":                  {of("Serving", ""), of("Unreachable", ""), "MemberAway", "cache-1, which was Serving, is Unreachable"},
		"it goes from bad to worse":     {of("Starting", ""), of("Unreachable", ""), "", ""},
		"it follows for the first time": {of("CatchingUp", ""), of("Following", ""), "", ""},
		"it takes over":                 {of("Following", ""), of("Serving", ""), "", ""}, // told as a change of primary
		"it handed over":                {of("Serving", ""), of("Following", ""), "", ""},
		"it is as it was":               {of("Following", ""), of("Following", "x"), "", ""},
		"nothing was known of it yet":   {v1alpha1.ReplicatedServiceStatus{}, of("Following", ""), "", ""},
	} {
		got := memberTales(&memory{}, c.before, c.after)
		if (len(got) == 1) != (c.reason != "") || len(got) == 1 && (got[0].reason != c.reason || !strings.HasSuffix(got[0].note, c.note)) {
			t.Errorf("%s: told %+v, want %s: %s", name, got, c.reason, c.note)
		}
	}
	m := &memory{}
	memberTales(m, of("Following", ""), of("Unreachable", ""))
	back := memberTales(m, of("CatchingUp", ""), of("Following", ""))
	if len(back) != 1 || back[0].reason != "MemberFollows" || back[0].member != "cache-1" || !strings.HasSuffix(back[0].note, "before that it was CatchingUp") {
		t.Errorf("when it follows again: told %+v", back)
	}
	if again := memberTales(m, of("CatchingUp", ""), of("Following", "")); len(again) > 0 {
		t.Errorf("told twice: %+v", again)
	}
}
