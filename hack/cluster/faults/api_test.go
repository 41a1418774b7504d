package faults

import (
	"strings"
	"testing"
)

func TestCutRulesCoverBothDirectionsOfNodeAndPods(t *testing.T) {
	rules := cutRules()
	for hook, want := range map[string][]string{
		"input": {"saddr"}, "output": {"daddr"}, "forward": {"saddr", "daddr"},
	} {
		for _, direction := range want {
			if !strings.Contains(rules, "add rule "+table+" "+hook+" ip "+direction) {
				t.Errorf("no rule for %s of %s:\n%s", direction, hook, rules)
			}
		}
	}
}
