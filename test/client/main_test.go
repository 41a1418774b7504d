package main

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"understudy.dev/understudy/test/internal/clients"
	"understudy.dev/understudy/test/internal/fake"
	"understudy.dev/understudy/test/internal/history"
	"understudy.dev/understudy/test/internal/load"
)

func keep(int, time.Time) (string, bool) { return fake.OK, true }

// serve runs the program; its users reach it over HTTP.
func serve(t *testing.T) *clients.Client {
	t.Helper()
	server := httptest.NewServer(newProgram("p").handler())
	t.Cleanup(server.Close)
	return clients.At(strings.TrimPrefix(server.URL, "http://"))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// reached asks until the answer is as wanted.
func reached(t *testing.T, ask func() (bool, error)) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for {
		done, err := ask()
		must(t, err)
		if done {
			return
		}
		select {
		case <-deadline:
			t.Fatal("it did not get there in 20 s")
		case <-tick.C:
		}
	}
}

func config(s *fake.Redis) load.Config {
	return load.Config{Address: s.Address, IntervalMicroseconds: 100, RetryMicroseconds: 100, WaitReplicas: 1}
}

func TestARound(t *testing.T) {
	s, c, ctx := fake.Serve(t, keep), serve(t), context.Background()
	must(t, c.Start(ctx, "r", config(s)))
	reached(t, func() (bool, error) {
		p, err := c.Progress(ctx, "r")
		return p.Acknowledged >= 20, err
	})
	result, err := c.Stop(ctx, "r")
	must(t, err)
	v, err := c.Verify(ctx, "r")
	must(t, err)
	if v.Acknowledged != result.Acknowledged || v.Lost != 0 || v.Acknowledged < 20 {
		t.Errorf("verified %+v of %+v", v, result)
	}
	if _, err := c.Progress(ctx, "r"); err == nil || !strings.Contains(err.Error(), "there is no round r") {
		t.Errorf("a verified round is not forgotten: %v", err)
	}
}

// record is one recording over HTTP and what the check says of it.
func record(t *testing.T, s *fake.Redis) history.Result {
	t.Helper()
	c, ctx := serve(t), context.Background()
	must(t, c.Record(ctx, "r", load.RecordConfig{Config: config(s), Clients: 3, Keys: 2}))
	reached(t, func() (bool, error) {
		p, err := c.Recorded(ctx, "r")
		return p.Confirmed >= 500, err
	})
	ops, seen, err := c.History(ctx, "r")
	must(t, err)
	if _, err := c.Recorded(ctx, "r"); err == nil || !strings.Contains(err.Error(), "there is no recording r") {
		t.Errorf("a recording whose history was taken is not forgotten: %v", err)
	}
	result, err := history.Check(ops, time.Minute)
	must(t, err)
	if result.Reads+result.Swaps < seen.Confirmed+seen.Keys || result.Uncertain != seen.Uncertain || seen.Confirmed < 500 {
		t.Errorf("%s of %+v", result, seen)
	}
	return result
}

func TestARecordingOfAServiceThatKeepsEverything(t *testing.T) {
	if result := record(t, fake.Serve(t, keep)); result.Verdict != history.Ok {
		t.Error(result)
	}
}

func TestARecordingOfAServiceThatLosesAConfirmedWrite(t *testing.T) {
	s := fake.Serve(t, func(n int, _ time.Time) (string, bool) { return fake.OK, n != 100 })
	if result := record(t, s); result.Verdict != history.Illegal || result.Illegal != 1 {
		t.Errorf("%s, want one key illegal", result)
	}
}

func TestWhatCannotBeDoneIsSaid(t *testing.T) {
	s, c, ctx := fake.Serve(t, keep), serve(t), context.Background()
	must(t, c.Record(ctx, "r", load.RecordConfig{Config: config(s)}))
	_, _, unknown := c.History(ctx, "other")
	for want, err := range map[string]error{
		"exists":          c.Record(ctx, "r", load.RecordConfig{Config: config(s)}),
		"letters, digits": c.Record(ctx, "not/one", load.RecordConfig{Config: config(s)}),
		"one of address":  c.Start(ctx, "q", load.Config{}),
		"there is no":     unknown,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want an error that says %q", err, want)
		}
	}
	if _, _, err := c.History(ctx, "r"); err != nil {
		t.Error(err)
	}
}
