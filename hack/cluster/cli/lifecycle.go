package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"understudy.dev/understudy/hack/cluster/build"
	"understudy.dev/understudy/hack/cluster/cluster"
)

func upCommand(p *places) *cobra.Command {
	var replace, noFsync bool
	command := &cobra.Command{
		Use:   "up",
		Short: "Bring the cluster up, or repair it",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			folder, err := p.folder()
			if err != nil {
				return err
			}
			source, err := p.source()
			if err != nil {
				return err
			}
			started := time.Now()
			out := command.OutOrStdout()
			if err := cluster.Up(command.Context(), cluster.Options{
				Folder: folder, Source: source, Progress: out, Replace: replace, Fsync: !noFsync,
			}); err != nil {
				return err
			}
			fmt.Fprintf(out, "the cluster is up after %s: export KUBECONFIG=%s PATH=%s:$PATH\n",
				time.Since(started).Round(100*time.Millisecond), folder.Kubeconfig(), folder.Bin(""))
			return nil
		},
	}
	command.Flags().BoolVar(&replace, "replace", false, "take down the cluster of another clone first")
	command.Flags().BoolVar(&noFsync, "unsafe-no-fsync", false, "let etcd lose what it acknowledged, for speed")
	return command
}

func downCommand(p *places) *cobra.Command {
	return &cobra.Command{
		Use:   "down",
		Short: "Remove the cluster and all it made; programs and images stay",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			folder, err := p.folder()
			if err != nil {
				return err
			}
			return cluster.Down(folder, command.OutOrStdout())
		},
	}
}

func buildCommand(p *places) *cobra.Command {
	var only string
	command := &cobra.Command{
		Use:   "build",
		Short: "Build or link programs without starting anything",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			folder, err := p.folder()
			if err != nil {
				return err
			}
			source, err := p.source()
			if err != nil {
				return err
			}
			var names []string
			switch only {
			case "":
			case "envtest":
				names = build.Envtest
			default:
				names = []string{only}
			}
			return cluster.Build(cluster.Options{
				Folder: folder, Source: source, Progress: command.ErrOrStderr(),
			}, names...)
		},
	}
	command.Flags().StringVar(&only, "only", "",
		fmt.Sprintf("envtest (what controller-runtime's test environment runs), or one of %v", build.Names()))
	return command
}

func loadCommand(p *places) *cobra.Command {
	return &cobra.Command{
		Use:   "load-image FILE.tar...",
		Short: "Import images into every node",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(command *cobra.Command, files []string) error {
			folder, err := p.folder()
			if err != nil {
				return err
			}
			return cluster.LoadImages(command.Context(), folder, command.ErrOrStderr(), files...)
		},
	}
}
