package postgresql

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"understudy.dev/understudy/internal/engine"
)

// Two members change roles again and again, and whoever rejoins is killed at any instant while it does. What was acknowledged
// and replicated is never lost, and each rejoin comes to its end.
func TestKilledAtAnyInstant(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano()) //nolint:gosec // a seed
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // not a secret
	primary, other := pair(t, engine.Quorum{})
	for round := range 4 {
		primary.sql(fmt.Sprintf("INSERT INTO t VALUES (%d)", round))
		r, _ := primary.report()
		other.reaches(r.Offset)
		if _, err := other.Detach(within(t), 0); err != nil {
			t.Fatal(err)
		}
		primary.sql("INSERT INTO t SELECT generate_series(1000, 1500)") // lost
		other.promote(engine.Quorum{})
		primary, other = other, primary
		other.crash()
		for range 3 {
			until(t, "it is told to follow, or is at it", func() bool {
				if r, ok := other.report(); ok && !r.Primary {
					_ = other.follow(within(t), primary.address) // which it may have to refuse
					return true
				}
				return other.stageNow() != runServer
			})
			time.Sleep(time.Duration(random.Int64N(int64(600 * time.Millisecond)))) // an instant at random, not a wait
			other.crash()
		}
		other.follows(primary)
		r, _ = primary.report()
		other.reaches(r.Offset)
		until(t, "it is readable", func() bool { c, err := other.client(); return err == nil && c.Close(within(t)) == nil })
		if got, want := other.sql("SELECT string_agg(n::text, ',' ORDER BY n) FROM t"), []string{"0", "0,1", "0,1,2", "0,1,2,3"}[round]; got != want {
			t.Fatalf("round %d: %s has %s, want %s", round, other.name, got, want)
		}
	}
	t.Logf("stages: %v and %v", primary.ran(), other.ran())
}
