package faults

import (
	"bytes"
	"fmt"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"

	"understudy.dev/understudy/hack/cluster/layout"
	"understudy.dev/understudy/hack/cluster/machine"
)

// table is ours alone, so that kube-proxy, which rewrites its own, leaves it.
const table = "inet understudy_faults"

// Firewall replaces what the node's firewall refuses, for the node and its pods, also on connections that are open. All
// else on the network goes on. Packets vanish, except those that are reset. Without rules everything passes. A rule is
//
//	api          to and from the API server
//	to=PLACE     towards a node with its pods, or towards one address
//	from=PLACE   the same in the other direction
//	reset=PORT   TCP of pods to or from that port is answered with resets
func Firewall(node layout.Machine, rules ...string) (Report, error) {
	text := emptyTable()
	if len(rules) > 0 {
		table, err := tableOf(rules)
		if err != nil {
			return Report{}, err
		}
		text += table
	}
	return apply(node, text)
}

// emptyTable works whether the table is there or not.
func emptyTable() string { return fmt.Sprintf("add table %[1]s\ndelete table %[1]s\n", table) }

// tableOf has a chain for what the node receives, sends and passes on for its pods. They come after kube-proxy's rewriting,
// so that services' addresses are covered too.
func tableOf(rules []string) (string, error) {
	text := "add table " + table + "\n"
	for _, hook := range []string{"input", "forward", "output"} {
		text += fmt.Sprintf("add chain %s %s { type filter hook %s priority 0; }\n", table, hook, hook)
	}
	add := func(rule string, hooks ...string) {
		for _, hook := range hooks {
			text += fmt.Sprintf("add rule %s %s %s\n", table, hook, rule)
		}
	}
	for _, rule := range rules {
		kind, value, _ := strings.Cut(rule, "=")
		place, err := place(value)
		port, portErr := strconv.ParseUint(value, 10, 16)
		switch {
		case rule == "api":
			add(fmt.Sprintf("ip daddr %s tcp dport %d drop", layout.Control().Address, layout.APIPort), "output", "forward")
			add(fmt.Sprintf("ip saddr %s tcp sport %d drop", layout.Control().Address, layout.APIPort), "input", "forward")
		case kind == "to" && err == nil:
			add("ip daddr "+place+" drop", "output", "forward")
		case kind == "from" && err == nil:
			add("ip saddr "+place+" drop", "input", "forward")
		case kind == "reset" && portErr == nil:
			add(fmt.Sprintf("tcp dport %d reject with tcp reset", port), "forward")
			add(fmt.Sprintf("tcp sport %d reject with tcp reset", port), "forward")
		default:
			return "", fmt.Errorf("%q is no rule: use api, to=PLACE, from=PLACE or reset=PORT, where a place is a node or an address", rule)
		}
	}
	return text, nil
}

// place is a node with its pods, or one address, as nft writes it.
func place(name string) (string, error) {
	if node, err := layout.Node(name); err == nil {
		return fmt.Sprintf("{ %s, %s }", node.Address, node.PodCIDR), nil
	}
	address, err := netip.ParseAddr(name)
	return address.String(), err
}

// apply puts rules into force in the node's network namespace; nft makes them one transaction.
func apply(node layout.Machine, rules string) (Report, error) {
	report := Report{Fault: "firewall", Node: node.Name, UnixNano: now()}
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
