package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"

	"understudy.dev/understudy/test/internal/clients"
	"understudy.dev/understudy/test/internal/faults"
	"understudy.dev/understudy/test/internal/kube"
	"understudy.dev/understudy/test/internal/load"
	"understudy.dev/understudy/test/internal/rounds"
)

// Strain is what became of a healthy service while every core was busy and its nodes were far from each other: each change
// of epoch in that time is a false failover.
type Strain struct {
	Seconds           float64       `json:"seconds"`
	DelayMilliseconds float64       `json:"delayMilliseconds"`
	Changes           []EpochChange `json:"changes"`
	Load              load.Result   `json:"load"`
	Lost              int           `json:"lost"`
	// LoadAverage of the last minute, at the end.
	LoadAverage string `json:"loadAverage"`
}

// EpochChange was seen in the Lease.
type EpochChange struct {
	At     time.Time `json:"at"`
	Member string    `json:"member"`
	Epoch  int64     `json:"epoch"`
}

func (o options) underStrain(ctx context.Context, c *kube.Cluster, set clients.Set, injector faults.Injector) (*Strain, error) {
	host, ok := injector.(faults.Host)
	if !ok {
		return nil, errors.New("--strain needs the host of the test cluster: use --cluster=local")
	}
	runner := rounds.Runner{Service: kube.Service{Cluster: c, Namespace: o.namespace, Name: o.name}, Clients: set, Injector: injector}
	if err := runner.WaitHealthy(ctx, 5*time.Minute); err != nil {
		return nil, err
	}
	first, err := runner.Service.Primary(ctx)
	if err != nil {
		return nil, err
	}
	client, _, err := set.NotOn(ctx, first.Node)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	config, err := runner.LoadConfig(ctx)
	if err != nil {
		return nil, err
	}
	// A client that does not take the delay for an outage.
	config.IntervalMicroseconds, config.DialMilliseconds, config.ReplyMilliseconds = 100_000, 2000, 5000
	config.LimitSeconds = int64((o.strain + 5*time.Minute).Seconds())
	id := "strain-" + time.Now().UTC().Format("150405")
	if err := client.Start(ctx, id, config); err != nil {
		return nil, err
	}
	out := &Strain{DelayMilliseconds: float64(o.strainDelay) / float64(time.Millisecond), Changes: []EpochChange{}}
	err = o.strainAndWatch(ctx, host, runner.Service, first, out)
	raw, _ := os.ReadFile("/proc/loadavg")
	_, _ = fmt.Sscan(string(raw), &out.LoadAverage)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Minute)
	defer cancel()
	var problems [2]error
	out.Load, problems[0] = client.Stop(ctx, id)
	verification, verifyErr := client.Verify(ctx, id)
	out.Lost, problems[1] = verification.Lost, verifyErr
	return out, errors.Join(err, problems[0], problems[1])
}

// strainAndWatch strains the cluster and looks at the Lease all the while.
func (o options) strainAndWatch(ctx context.Context, host faults.Host, service kube.Service, last kube.Primary, out *Strain) error {
	ctx, cancel := context.WithTimeout(ctx, o.strain+time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, host.Tool, "strain", "--busy", "--delay", o.strainDelay.String(), "--for", o.strain.String())
	command.Cancel = func() error { return command.Process.Signal(unix.SIGINT) }
	command.WaitDelay = 20 * time.Second
	command.Stderr = os.Stderr
	stdout, err := command.StdoutPipe()
	if err != nil {
		return err
	}
	if err := command.Start(); err != nil {
		return fmt.Errorf("starting %s: %w", host.Tool, err)
	}
	// It prints one line when it has begun.
	if _, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		return fmt.Errorf("straining the cluster: %w", errors.Join(err, command.Wait()))
	}
	begun := time.Now()
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	for tick := time.NewTicker(time.Second); ; {
		select {
		case err := <-ended:
			tick.Stop()
			out.Seconds = time.Since(begun).Seconds()
			if err == nil && out.Seconds < o.strain.Seconds()-1 {
				err = fmt.Errorf("straining the cluster: it ended after %.0f s", out.Seconds)
			}
			return err
		case <-tick.C:
			if now, err := service.Primary(ctx); err == nil && now.Epoch != last.Epoch {
				last = now
				out.Changes = append(out.Changes, EpochChange{At: time.Now(), Member: now.Member, Epoch: now.Epoch})
				fmt.Fprintf(os.Stderr, "after %s: %s in epoch %d\n", time.Since(begun).Round(time.Second), now.Member, now.Epoch)
			}
		}
	}
}

func (s *Strain) print(w io.Writer) {
	fmt.Fprintf(w, "\nUnder strain for %.0f s (stress-ng on every core, load average %s; %.0f ms added each way between nodes): %d false failovers\n",
		s.Seconds, s.LoadAverage, s.DelayMilliseconds, len(s.Changes))
	for _, change := range s.Changes {
		fmt.Fprintf(w, "  %s %s in epoch %d\n", change.At.UTC().Format("15:04:05"), change.Member, change.Epoch)
	}
	fmt.Fprintf(w, "A client on another node: %d writes acknowledged, %d lost, the longest time without one %.0f ms\n",
		s.Load.Acknowledged, s.Lost, milliseconds(s.Load.Outage.Microseconds))
}
