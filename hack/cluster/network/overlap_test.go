package network

import (
	"net"
	"testing"
)

func TestOverlap(t *testing.T) {
	for cidr, wantError := range map[string]bool{
		"192.168.1.5/24":  false,
		"127.0.0.1/8":     false,
		"10.213.0.1/24":   false, // our own
		"10.214.7.7/24":   true,
		"10.0.0.5/8":      true,
		"10.215.200.1/32": true,
	} {
		ip, network, err := net.ParseCIDR(cidr)
		if err != nil {
			t.Fatal(err)
		}
		network.IP = ip
		if err := overlap([]net.Addr{network}); (err != nil) != wantError {
			t.Errorf("%s: got %v", cidr, err)
		}
	}
}
