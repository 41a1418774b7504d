package layout

import (
	"net"
	"testing"
)

func TestMachinesAreDistinctAndInTheirRanges(t *testing.T) {
	_, network, err := net.ParseCIDR(NetworkCIDR)
	if err != nil {
		t.Fatal(err)
	}
	_, pods, err := net.ParseCIDR(PodCIDR)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{HostAddress: true}
	for _, m := range Machines() {
		for _, unique := range []string{m.Name, m.Address, m.MAC, m.Namespace(), m.Link()} {
			if seen[unique] {
				t.Errorf("%s is there twice", unique)
			}
			seen[unique] = true
		}
		if !network.Contains(net.ParseIP(m.Address)) {
			t.Errorf("%s has address %s outside %s", m.Name, m.Address, NetworkCIDR)
		}
		if len(m.Link()) > 15 {
			t.Errorf("the kernel takes no link name as long as %s", m.Link())
		}
		if m.IsNode() {
			ip, own, err := net.ParseCIDR(m.PodCIDR)
			if err != nil || !pods.Contains(ip) || !own.Contains(net.ParseIP(m.Gateway)) {
				t.Errorf("%s has pods in %s with gateway %s: %v", m.Name, m.PodCIDR, m.Gateway, err)
			}
		}
	}
	if _, err := Node("control"); err == nil {
		t.Error("the control plane passes for a node")
	}
}
