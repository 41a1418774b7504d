package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"understudy.dev/understudy/hack/cluster/debian"
	"understudy.dev/understudy/hack/cluster/delay"
	"understudy.dev/understudy/hack/cluster/faults"
)

func strainCommand() *cobra.Command {
	var held, span time.Duration
	var busy bool
	command := &cobra.Command{
		Use:   "strain [--delay 50ms] [--busy] [--for 1h]",
		Short: "Hold packets between nodes back and keep every core busy, for a time or until interrupted",
		Long: "--delay holds every packet between two nodes back, in each direction; the API server is as near as ever.\n" +
			"--busy runs stress-ng on every core; it is installed when it is missing.",
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			if held < 0 || held > 10*time.Second || (held == 0 && !busy) {
				return errors.New("nothing to do: give --delay (at most 10s), --busy, or both")
			}
			return strain(command.Context(), command.OutOrStdout(), command.ErrOrStderr(), held, span, busy)
		},
	}
	command.Flags().DurationVar(&held, "delay", 0, "how long to hold a packet between two nodes back")
	command.Flags().BoolVar(&busy, "busy", false, "keep every core busy")
	command.Flags().DurationVar(&span, "for", time.Hour, "how long")
	return command
}

func strain(ctx context.Context, out, progress io.Writer, held, span time.Duration, busy bool) error {
	path := ""
	if busy {
		var err error
		if path, err = debian.Program(progress, "stress-ng", "stress-ng"); err != nil {
			return err
		}
	}
	report := faults.Report{Fault: "strain", UnixNano: time.Now().UnixNano()}
	ctx, cancel := context.WithTimeout(ctx, span)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	if busy {
		command := exec.CommandContext(ctx, path, "--cpu", "0", "--quiet", "--timeout", strconv.Itoa(int(span.Seconds())+1))
		command.Cancel = func() error { return command.Process.Signal(unix.SIGTERM) } // it ends its own children then
		command.WaitDelay = 10 * time.Second
		command.Stderr = progress
		if err := command.Start(); err != nil {
			return fmt.Errorf("starting %s: %w", path, err)
		}
		group.Go(func() error {
			if err := command.Wait(); ctx.Err() == nil {
				return fmt.Errorf("%s ended by itself: %w", path, err)
			}
			return nil
		})
	}
	if held > 0 {
		end, err := delay.Begin(ctx, held)
		if err != nil {
			return err
		}
		group.Go(func() error {
			<-ctx.Done()
			return end()
		})
	}
	report.UnixNanoDone = time.Now().UnixNano()
	if err := json.NewEncoder(out).Encode(report); err != nil {
		return err
	}
	return group.Wait()
}
