package cli

import (
	"errors"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"understudy.dev/understudy/hack/cluster/cluster"
)

// errSomethingDown makes the exit code; the table has said the rest.
var errSomethingDown = errors.New("something is down")

func statusCommand(p *places) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "List every program; fail when one is down",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			folder, err := p.folder()
			if err != nil {
				return err
			}
			rows, err := cluster.Status(command.Context(), folder)
			if err != nil {
				return err
			}
			healthy := true
			table := tabwriter.NewWriter(command.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(table, "COMPONENT\tNODE\tPID\tSTATE")
			for _, row := range rows {
				pid := "-"
				if row.PID > 0 {
					pid = fmt.Sprint(row.PID)
				}
				fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", row.Component, row.Node, pid, row.State)
				healthy = healthy && row.Healthy
			}
			if err := table.Flush(); err != nil {
				return err
			}
			if !healthy {
				return errSomethingDown
			}
			return nil
		},
	}
}
