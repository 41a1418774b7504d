package network

import (
	"fmt"
	"net"

	"understudy.dev/understudy/hack/cluster/layout"
)

// refuseOverlap protects a network that the host already uses: our routes would take its traffic away.
func refuseOverlap() error {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return fmt.Errorf("listing the host's addresses: %w", err)
	}
	return overlap(addresses)
}

func overlap(addresses []net.Addr) error {
	for _, cidr := range []string{layout.NetworkCIDR, layout.PodCIDR, layout.ServiceCIDR} {
		_, ours, err := net.ParseCIDR(cidr)
		if err != nil {
			return fmt.Errorf("parsing %s: %w", cidr, err)
		}
		for _, address := range addresses {
			theirs, ok := address.(*net.IPNet)
			if !ok || theirs.IP.String() == layout.HostAddress {
				continue
			}
			if ours.Contains(theirs.IP) || theirs.Contains(ours.IP) {
				return fmt.Errorf("the host's address %s overlaps the cluster's range %s: change the ranges in "+
					"hack/cluster/layout and run up again", theirs, cidr)
			}
		}
	}
	return nil
}
