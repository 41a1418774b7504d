package agent

import (
	"testing"

	"understudy.dev/understudy/internal/engine"
	"understudy.dev/understudy/internal/failover"
)

// Whose word the engine of a primary takes: of a new pod none before the Lease names what it has, and of who left none as long as enough others are counted.
func TestWhoseWordCounts(t *testing.T) {
	named := func(m string) string { return engine.FollowerName(m, "uid-"+m) }
	for name, c := range map[string]struct {
		change func(s *stage, set *failover.SyncSet)
		want   []string
	}{
		"all as they were":            {func(*stage, *failover.SyncSet) {}, []string{named("m-1"), named("m-2")}},
		"a new pod with its old data": {func(s *stage, _ *failover.SyncSet) { s.renewed("m-1", "d1") }, []string{engine.FollowerName("m-1", "new"), named("m-2")}},
		"a new pod with other data":   {func(s *stage, _ *failover.SyncSet) { s.renewed("m-1", "other") }, []string{engine.FollowerName("m-1", ""), named("m-2")}},
		"which the Lease names": {func(s *stage, set *failover.SyncSet) {
			s.renewed("m-1", "other")
			set.Replicas["m-1"] = "other"
		}, []string{engine.FollowerName("m-1", "new"), named("m-2")}},
		"one left": {func(s *stage, _ *failover.SyncSet) { s.left("m-2") }, []string{named("m-1")}},
		"one left, and the other cannot confirm": {func(s *stage, _ *failover.SyncSet) {
			s.renewed("m-1", "other")
			s.left("m-2")
		}, []string{engine.FollowerName("m-1", ""), named("m-2")}},
	} {
		t.Run(name, func(t *testing.T) {
			s := serving(t, true)
			set := &failover.SyncSet{Epoch: 1, Primary: "m-0", Quorum: 1, Replicas: map[string]string{"m-1": "d1", "m-2": "d2"}}
			s.a.obs.Engine.Counts = map[string][]string{"m-1": {"uid-m-1"}, "m-2": {"uid-m-2"}}
			c.change(s, set)
			got, counts := s.a.engineQuorumOf(set, 1)
			if want := (engine.Quorum{Replicas: 1, Members: c.want}); !got.Equal(want) {
				t.Errorf("%+v (%v), want %+v", got, counts, want)
			}
			for member, pods := range counts {
				if len(pods) != 1 || pods[0] == "" || engine.FollowerName(member, pods[0]) == "" {
					t.Errorf("it is noted that of %s %v count", member, pods)
				}
			}
		})
	}
}

// renewed: a new pod of a member is connected, and has acknowledged with its data.
func (s *stage) renewed(member, data string) {
	s.a.pods[member] = "new"
	s.a.obs.Tenure.Acks[member] = failover.Counted{Run: failover.Run{Member: member, PodUID: "new", BootID: "1.x"}, DataID: data}
}

// left: a member is none any more.
func (s *stage) left(member string) {
	var stay []failover.MemberEntry
	for _, m := range s.a.obs.Lease.Terms.Members {
		if m.Name != member {
			stay = append(stay, m)
		}
	}
	s.a.obs.Lease.Terms.Members = stay
}
