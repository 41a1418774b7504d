package simulator

import (
	"flag"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"understudy.dev/understudy/internal/failover"
)

var search = flag.Int("search", 0, "schedules to look through for each rule that is switched off; 0: as many as it usually takes, with room")

// needed are the rules whose absence a schedule shows. within is how many schedules are played at most: a few times what it
// takes. Where two rules stand behind each other both are switched off. Other rules are shown by directed tests in
// internal/failover; docs/design/2026-11-24-safety-argument.md says which are not shown yet.
var needed = []struct {
	name   string
	rules  failover.Rule
	config Config
	within int
}{
	{"RunBound", failover.RunBound, Config{Members: 3, Persistent: true}, 1000},
	{"MajorityServe", failover.MajorityServe, Config{Members: 3, Only: []string{"member is isolated", "members are cut apart"}}, 100},
	{"GuardKills", failover.GuardKills, Config{Members: 3, Only: []string{"agent is stopped"}}, 100},
	{"HolderRenumbers", failover.HolderRenumbers, Config{Members: 3}, 3000},
	{"OneVote", failover.OneVote, Config{Members: 3, Only: []string{
		"pod is deleted by force", "link is cut", "way is cut", "member is isolated", "members are cut apart", "API server is cut off",
	}}, 6000},
	{"Contradicted", failover.Contradicted, Config{Members: 3, Only: []string{lies, "agent is stopped"}}, 100},
	{"SyncQuorum", failover.SyncQuorum, Config{Members: 3, Quorum: 1, Persistent: true}, 100},
	{"DataIdentity", failover.DataIdentity, Config{Members: 3, Quorum: 1, Persistent: true}, 2000},
	{"LeaversCount", failover.LeaversCount, Config{Members: 3, Quorum: 1, Persistent: true, Only: []string{
		"node is off and tainted", "member is isolated", "wall clock jumps", "link is cut", "switchover", "way is cut",
	}}, 20000},
	{"StandsForAll", failover.StandsForAll, Config{Members: 3, Quorum: 1, Persistent: true}, 100},
	{"WaitFromAcks and AckAge", failover.WaitFromAcks | failover.AckAge, Config{Members: 3, Only: []string{
		"link is cut", "member is isolated", "members are cut apart",
	}}, 1000},
}

// Each rule is needed: without it an invariant breaks.
func TestRulesAreNeeded(t *testing.T) {
	for _, c := range needed {
		t.Run(c.name, func(t *testing.T) {
			limit := c.within
			if *search > 0 {
				limit = *search
			}
			seed, result := firstBroken(c.config, c.rules, limit)
			if seed == 0 {
				t.Errorf("%d schedules without the rule broke nothing", limit)
				return
			}
			t.Logf("seed %d: %s: %s", seed, result.Broken, result.Detail)
		})
	}
}

// firstBroken plays schedules until one breaks an invariant; 0: none did.
func firstBroken(config Config, without failover.Rule, limit int) (seed uint64, result Result) {
	var next atomic.Int64
	var mu sync.Mutex
	var wait sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wait.Go(func() {
			for {
				c := config.timed()
				c.Seed, c.Without = uint64(next.Add(1)), without
				mu.Lock()
				done := c.Seed > uint64(limit) || (seed != 0 && seed < c.Seed)
				mu.Unlock()
				if done {
					return
				}
				r := Run(c)
				mu.Lock()
				if r.Broken != "" && (seed == 0 || c.Seed < seed) {
					seed, result = c.Seed, r
				}
				mu.Unlock()
			}
		})
	}
	wait.Wait()
	return seed, result
}
