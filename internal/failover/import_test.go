package failover

import (
	"testing"
	"time"
)

// The holder of epoch 1 dies before it opened, with the data on its volume that the service is to begin with: the others, which are
// empty, leave it to its next run. Without such data one of them begins the service.
func TestOnlyWhoImportsBeginsTheService(t *testing.T) {
	for _, by := range []string{"m-0", ""} {
		th := newTheatre(t, 3)
		for _, a := range th.members {
			a.obs.ImportedBy = by
		}
		th.run(50 * time.Millisecond)
		th.members["m-0"].dead[Open] = true
		th.swap(func(l *Lease) { l.Epoch, l.Holder = 1, th.members["m-0"].obs.Self })
		th.run(300 * time.Millisecond)
		th.crash("m-0")
		th.run(5 * time.Second)
		if began := th.serving("m-1", 2) || th.serving("m-2", 2); began != (by == "") {
			t.Fatalf("data imported by %q: an empty member took over: %t", by, began)
		}
		if by == "" {
			continue
		}
		delete(th.members["m-0"].dead, Open)
		th.boot("m-0")
		th.members["m-0"].obs.ImportedBy = by
		th.until("m-0 serves", 10*time.Second, func() bool { return th.lease.Terms.Opened > 1 && th.lease.Holder.Member == "m-0" })
		th.run(time.Second)
		th.crash("m-0")
		th.until("another takes over what it copied", 10*time.Second, func() bool {
			return th.lease.Holder.Member != "m-0" && th.serving(th.lease.Holder.Member, th.lease.Epoch)
		})
	}
}
