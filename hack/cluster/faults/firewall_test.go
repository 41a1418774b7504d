package faults

import (
	"strings"
	"testing"
)

func TestFirewallCoversNodeAndPods(t *testing.T) {
	for _, c := range []struct {
		rule string
		want map[string]string // what each hook must refuse
	}{
		{"api", map[string]string{"input": "ip saddr 10.213.0.2 tcp sport 6443 drop", "output": "ip daddr 10.213.0.2 tcp dport 6443 drop"}},
		{"api", map[string]string{"forward": "ip saddr 10.213.0.2"}},
		{"api", map[string]string{"forward": "ip daddr 10.213.0.2"}},
		{"to=node-2", map[string]string{"output": "ip daddr { 10.213.0.12, 10.214.2.0/24 } drop", "forward": "ip daddr { 10.213.0.12, 10.214.2.0/24 } drop"}},
		{"from=10.214.3.7", map[string]string{"input": "ip saddr 10.214.3.7 drop", "forward": "ip saddr 10.214.3.7 drop"}},
		{"reset=7946", map[string]string{"forward": "tcp dport 7946 reject with tcp reset"}},
	} {
		text, err := tableOf([]string{c.rule})
		if err != nil {
			t.Errorf("%s: %v", c.rule, err)
		}
		for hook, want := range c.want {
			if !strings.Contains(text, "add rule "+table+" "+hook+" "+want) {
				t.Errorf("%s: nothing in %s says %q:\n%s", c.rule, hook, want, text)
			}
		}
	}
	one, err := tableOf([]string{"to=node-2"})
	if err != nil || strings.Contains(one, "saddr") {
		t.Errorf("a cut of one direction cuts the other too: %v\n%s", err, one)
	}
}

func TestFirewallRefusesNonsense(t *testing.T) {
	for _, rule := range []string{"", "to=", "to=node-9", "from=everywhere", "reset=http", "reset=70000", "drop"} {
		if _, err := tableOf([]string{rule}); err == nil {
			t.Errorf("%q was taken for a rule", rule)
		}
	}
}
