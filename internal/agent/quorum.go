package agent

import (
	"context"
	"maps"
	"slices"
	"time"

	"understudy.dev/understudy/internal/engine"
	"understudy.dev/understudy/internal/failover"
)

// overstates reports whether the Lease would say of an engine that is open that more replicas confirm each write than it waits for.
func (a *Agent) overstates(next failover.Terms) bool {
	t, set := a.obs.Tenure, next.Set()
	if t == nil || !t.Opened || set == nil {
		return false
	}
	return set.Quorum > max(a.quorumInForce(), a.obs.Engine.Quorum)
}

// quorumInForce is the W of this run's own synchronous set.
func (a *Agent) quorumInForce() int {
	if set := a.obs.Lease.Terms.Set(); set != nil && set.Primary == a.Self.Member {
		return set.Quorum
	}
	return 0
}

// engineQuorum is what the engine is told: at least the quorum in force, out of the members of this run's own set. counts are the pods that it names.
func (a *Agent) engineQuorum(quorum int) (q engine.Quorum, counts map[string][]string) {
	return a.engineQuorumOf(a.obs.Lease.Terms.Set(), quorum)
}

func (a *Agent) engineQuorumOf(set *failover.SyncSet, quorum int) (q engine.Quorum, counts map[string][]string) {
	q, counts = engine.Quorum{Replicas: max(a.obs.Lease.Terms.MinReplicasToWrite, quorum)}, map[string][]string{}
	if set == nil || set.Primary != a.Self.Member {
		return q, counts
	}
	terms, t := a.obs.Lease.Terms, a.obs.Tenure
	stay := 0
	for member, named := range set.Replicas {
		if terms.HasMember(member) && a.counted(member, named) != "" {
			stay++
		}
	}
	// The word of those who left counts no longer, and then they are dropped from the Lease. With a target a write may have done that already.
	enough := stay >= max(q.Replicas, 1) || (t != nil && t.Left.Target > 0)
	for _, member := range slices.Sorted(maps.Keys(set.Replicas)) {
		if enough && !terms.HasMember(member) {
			continue
		}
		pod := a.counted(member, set.Replicas[member])
		if pod != "" {
			counts[member] = []string{pod}
		}
		q.Members = append(q.Members, engine.FollowerName(member, pod)) // without a pod it is a name that nobody has
	}
	return q, counts
}

// counted is the pod of a member whose word counts, or none. While this run serves, the word of a new pod counts when the Lease names the data that this has: else
// a candidate might count on the data of the pod before, and on a write that only the new one has.
func (a *Agent) counted(member, named string) string {
	pod, t := a.pods[member], a.obs.Tenure
	if named == "" || t == nil {
		return pod
	}
	c := t.Acks[member]
	known := c.Run.PodUID == pod && c.DataID != ""
	switch {
	case t.Opened && slices.Contains(a.obs.Engine.Counts[member], pod):
		return pod
	case known && c.DataID == named, !known && !t.Opened:
		return pod
	}
	return ""
}

// either are the pods of both.
func either(before, after map[string][]string) map[string][]string {
	out := map[string][]string{}
	for _, counts := range []map[string][]string{before, after} {
		for member, pods := range counts {
			out[member] = append(out[member], slices.DeleteFunc(slices.Clone(pods), func(pod string) bool { return slices.Contains(out[member], pod) })...)
		}
	}
	return out
}

// unsure is what an engine goes by that was told and has not confirmed it: nothing that is wanted equals it.
var unsure = engine.Quorum{Replicas: -1}

// ours reports whether the Lease names this run. One that names another says nothing of how many replicas this engine is to wait for: until it is fenced, which
// follows, it must let nobody go who waits.
func (a *Agent) ours() bool { return a.obs.Lease.Holder == a.Self }

// reconfigure tells an open engine what it was not told yet: the policy may have changed while it was promoted, refused or busy.
func (a *Agent) reconfigure() {
	e := a.obs.Engine
	if !e.Writable || a.fencing || !a.ours() {
		return
	}
	if wanted, _ := a.engineQuorum(e.Quorum); !a.proc.quorum.Equal(wanted) {
		a.configure(e.Quorum)
	}
}

// configure tells the engine how many replicas it needs. Fewer are noted at once, since the engine may go by them before it answers, and also if it never does; more
// when it has confirmed them.
func (a *Agent) configure(quorum int) {
	if a.doing.is(failover.Configure) {
		return
	}
	done := a.doing.begin(failover.Configure)
	wanted, counts := a.engineQuorum(quorum)
	e := &a.obs.Engine
	e.Quorum, e.Counts, a.proc.quorum = min(e.Quorum, quorum), either(e.Counts, counts), unsure
	var err error
	ok := a.orders.do(orderTimeout, func(ctx context.Context) { err = a.Engine.Configure(ctx, wanted) }, func() {
		if err != nil {
			a.Log.Error(err, "The engine could not be configured", "minReplicasToWrite", wanted.Replicas)
			a.World.After(time.Second, done) // an engine that refuses is not hammered
			return
		}
		done()
		e.Quorum, e.Counts, e.QuorumAt, a.proc.quorum = quorum, counts, a.now(), wanted
	})
	if !ok {
		done()
	}
}
