package cli

import (
	"github.com/spf13/cobra"

	"understudy.dev/understudy/hack/cluster/kube"
	"understudy.dev/understudy/hack/cluster/layout"
	"understudy.dev/understudy/hack/cluster/machine"
	"understudy.dev/understudy/hack/cluster/pki"
	"understudy.dev/understudy/hack/cluster/volumes"
)

func machineCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "machine SPECIFICATION",
		Short:  "Be the first process of a machine (up starts it)",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			spec, err := machine.ReadSpec(args[0])
			if err != nil {
				return err
			}
			return machine.Run(spec)
		},
	}
}

func volumesCommand(p *places) *cobra.Command {
	return &cobra.Command{
		Use:    "volumes NODE",
		Short:  "Provide volumes (each node starts it)",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			folder, err := p.folder()
			if err != nil {
				return err
			}
			node, err := layout.Node(args[0])
			if err != nil {
				return err
			}
			client, err := kube.New(folder, pki.ClusterCA, pki.Volumes)
			if err != nil {
				return err
			}
			return (&volumes.Provider{Folder: folder, Client: client, Node: node}).Run(command.Context())
		},
	}
}
