package faults

import (
	"bytes"
	"fmt"
	"os/exec"
	"strings"

	"understudy.dev/understudy/hack/cluster/layout"
	"understudy.dev/understudy/hack/cluster/machine"
)

// table is ours alone, so that kube-proxy, which rewrites its own, leaves it.
const table = "inet understudy_faults"

// CutAPI makes the API server unreachable for one node, its pods included: packets vanish, also those of connections
// that are open. All else on the network goes on.
func CutAPI(node layout.Machine) (Report, error) { return firewall("cut-api", node, cutRules()) }

// MendAPI undoes CutAPI.
func MendAPI(node layout.Machine) (Report, error) { return firewall("mend-api", node, emptyTable()) }

// emptyTable works whether the table is there or not.
func emptyTable() string { return fmt.Sprintf("add table %[1]s\ndelete table %[1]s\n", table) }

func cutRules() string {
	to := fmt.Sprintf("ip daddr %s tcp dport %d drop", layout.Control().Address, layout.APIPort)
	from := fmt.Sprintf("ip saddr %s tcp sport %d drop", layout.Control().Address, layout.APIPort)
	rules := emptyTable() + "add table " + table + "\n"
	for _, chain := range []struct {
		hook  string
		rules []string
	}{{"input", []string{from}}, {"forward", []string{to, from}}, {"output", []string{to}}} {
		// After kube-proxy's rewriting, so that the API server's service address is covered too.
		rules += fmt.Sprintf("add chain %s %s { type filter hook %s priority 0; }\n", table, chain.hook, chain.hook)
		for _, rule := range chain.rules {
			rules += fmt.Sprintf("add rule %s %s %s\n", table, chain.hook, rule)
		}
	}
	return rules
}

// firewall applies rules in the node's network namespace; nft makes them one transaction.
func firewall(name string, node layout.Machine, rules string) (Report, error) {
	report := Report{Fault: name, Node: node.Name, UnixNano: now()}
	err := machine.InNetwork(node.Namespace(), func() error {
		command := exec.Command("nft", "-f", "-")
		command.Stdin = strings.NewReader(rules)
		if output, err := command.CombinedOutput(); err != nil {
			return fmt.Errorf("changing the firewall of %s: %w: %s", node.Name, err, bytes.TrimSpace(output))
		}
		return nil
	})
	report.UnixNanoDone = now()
	return report, err
}
