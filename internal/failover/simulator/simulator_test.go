package simulator

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var (
	seeds = flag.Int("seeds", 2000, "schedules to play")
	from  = flag.Uint64("from", 1, "the first seed")
	only  = flag.String("config", "", "play only the configuration of this name")
	story = flag.String("story", "", "file to write the story of the first seed to")
)

// configurations are played in turn, so that each gets its share of the seeds.
var configurations = []struct {
	name   string
	config Config
}{
	{"three", Config{Members: 3}},
	{"two", Config{Members: 2}},
	{"four", Config{Members: 4}},
	{"scaling", Config{Members: 3, Scaling: true}},
	{"volumes", Config{Members: 3, Persistent: true}},
	{"synchronous", Config{Members: 3, Quorum: 1, Persistent: true}},
	{"synchronous of five", Config{Members: 5, Quorum: 2, Persistent: true}},
	{"every write waits", Config{Members: 3, Quorum: 1, EveryWaits: true, Persistent: true}},
	{"every write of five waits", Config{Members: 5, Quorum: 2, EveryWaits: true, Persistent: true}},
	{"synchronous without volumes", Config{Members: 3, Quorum: 1}},
	{"modes", Config{Members: 3, Quorum: 1, Persistent: true, Modes: true}},
	{"modes, every write waits", Config{Members: 3, Quorum: 1, EveryWaits: true, Persistent: true, Modes: true}},
	{"modes, writes go on", Config{Members: 3, Quorum: 1, EveryWaits: true, Persistent: true, Modes: true, Continues: true}},
	{"writes go on with fewer", Config{Members: 5, Quorum: 2, EveryWaits: true, Persistent: true, Continues: true}},
	{"every write waits, without volumes", Config{Members: 3, Quorum: 1, EveryWaits: true}},
	{"every write waits, scaling", Config{Members: 4, Quorum: 1, EveryWaits: true, Persistent: true, Scaling: true}},
	{"lies", Config{Members: 3, Only: []string{lies, "engine crashes", "container is killed", "agent is stopped", "machine is frozen", "switchover", "pod ends"}}},
	{"available", Config{Members: 3, Available: true}},
	{"deleted by force", Config{Members: 3, Only: []string{"pod is deleted by force", "link is cut", "way is cut", "member is isolated", "members are cut apart", "API server is cut off"}}},
}

func configuration(seed uint64) (string, Config) {
	for _, c := range configurations {
		if c.name == *only {
			c.config.Seed = seed
			return c.name, c.config.timed()
		}
	}
	c := configurations[seed%uint64(len(configurations))]
	c.config.Seed = seed
	return c.name, c.config.timed()
}

func (c Config) timed() Config {
	c.Busy, c.Quiet = 9*time.Second, 9*time.Second
	return c
}

// A seed always gives the same story, told or not.
func TestReplay(t *testing.T) {
	for seed := uint64(1); seed < 40; seed++ {
		_, config := configuration(seed)
		a := Run(config)
		config.Story = true
		b := Run(config)
		if a.Events != b.Events || a.Broken != b.Broken || a.Writes != b.Writes {
			t.Errorf("seed %d: %d events (%s), then %d (%s)", seed, a.Events, a.Broken, b.Events, b.Broken)
		}
	}
}

func TestSchedules(t *testing.T) {
	if *story != "" {
		_, config := configuration(*from)
		config.Story = true
		r := Run(config)
		if err := os.WriteFile(*story, []byte(strings.Join(r.Story, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		t.Logf("%+v %s", r.Broken, r.Detail)
		return
	}
	begun := time.Now()
	var next, events, grants, writes, lost, stalled, broken atomic.Int64
	var mu sync.Mutex
	found := map[string][]uint64{}
	var wait sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wait.Go(func() {
			for {
				i := next.Add(1) - 1
				if i >= int64(*seeds) || broken.Load() > 20 {
					return
				}
				name, config := configuration(*from + uint64(i))
				r := Run(config)
				events.Add(int64(r.Events))
				grants.Add(int64(r.Grants))
				writes.Add(int64(r.Writes))
				lost.Add(int64(r.Lost))
				if r.Stalled {
					stalled.Add(1)
				}
				if r.Broken != "" {
					broken.Add(1)
					mu.Lock()
					key := name + " " + r.Broken
					found[key] = append(found[key], config.Seed)
					if len(found[key]) == 1 {
						t.Errorf("seed %d (%s): %s: %s", config.Seed, name, r.Broken, r.Detail)
					}
					mu.Unlock()
				}
			}
		})
	}
	wait.Wait()
	t.Logf("%d schedules, %d events, %d epochs granted, %d writes acknowledged, %d lost in asynchronous failovers, %d stalled with reason, in %s",
		min(next.Load(), int64(*seeds)), events.Load(), grants.Load(), writes.Load(), lost.Load(), stalled.Load(), time.Since(begun).Round(time.Millisecond))
	keys := make([]string, 0, len(found))
	for k, s := range found {
		slices.Sort(s)
		keys = append(keys, fmt.Sprintf("%s: %d %v", k, len(s), s[:min(8, len(s))]))
	}
	slices.Sort(keys)
	for _, k := range keys {
		t.Log(k)
	}
}
