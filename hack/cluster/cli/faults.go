package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"understudy.dev/understudy/hack/cluster/cluster"
	"understudy.dev/understudy/hack/cluster/faults"
	"understudy.dev/understudy/hack/cluster/layout"
)

func nodeCommand(p *places) *cobra.Command {
	var wait bool
	command := &cobra.Command{
		Use:       "node NAME off|on|isolate|rejoin",
		Short:     "Cut a node's power or cable, or undo that",
		Long:      "off kills every process of the node while its cable is dead; on boots it with the disk it had.\nisolate unplugs its cable; rejoin plugs it in.",
		Args:      cobra.ExactArgs(2),
		ValidArgs: []string{"off", "on", "isolate", "rejoin"},
		RunE: func(command *cobra.Command, args []string) error {
			folder, err := p.folder()
			if err != nil {
				return err
			}
			node, err := layout.Node(args[0])
			if err != nil {
				return err
			}
			var report faults.Report
			switch args[1] {
			case "off":
				report, err = cluster.NodeOff(folder, node)
			case "on":
				return nodeOn(command.Context(), command.OutOrStdout(), folder, node, wait)
			case "isolate", "rejoin":
				report, err = cluster.Cable(folder, node, args[1] == "rejoin")
			default:
				return fmt.Errorf("%q is nothing that can be done to a node: use off, on, isolate or rejoin", args[1])
			}
			if err != nil {
				return err
			}
			return json.NewEncoder(command.OutOrStdout()).Encode(report)
		},
	}
	command.Flags().BoolVar(&wait, "wait", true, "after on, wait until the node is ready")
	return command
}

func firewallCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "firewall NODE [api] [to=PLACE] [from=PLACE] [reset=PORT]",
		Short: "Replace what a node's firewall refuses for it and its pods; nothing named: nothing is refused",
		Long: "api: packets to and from the API server vanish.\nto=PLACE, from=PLACE: those of one direction to or from a node with its pods, or one address, vanish.\n" +
			"reset=PORT: TCP of pods to or from that port is answered with resets.",
		Args: cobra.MinimumNArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			node, err := layout.Node(args[0])
			if err != nil {
				return err
			}
			report, err := faults.Firewall(node, args[1:]...)
			if err != nil {
				return err
			}
			return json.NewEncoder(command.OutOrStdout()).Encode(report)
		},
	}
}

func nodeOn(ctx context.Context, out io.Writer, folder layout.Folder, node layout.Machine, wait bool) error {
	started := time.Now()
	report := faults.Report{Fault: "on", Node: node.Name, UnixNano: started.UnixNano()}
	if err := cluster.NodeOn(ctx, folder, node); err != nil {
		return err
	}
	if wait {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
		defer cancel()
		if err := cluster.WaitReady(ctx, folder, node, started); err != nil {
			return err
		}
	}
	report.UnixNanoDone = time.Now().UnixNano()
	return json.NewEncoder(out).Encode(report)
}

func killCommand(p *places) *cobra.Command {
	var namespace, pod, container, process, name string
	var all bool
	command := &cobra.Command{
		Use:   "kill --namespace NS --pod POD --process NAME|pid1 [--all]",
		Short: "Signal one process of a container from the host, and say when",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			folder, err := p.folder()
			if err != nil {
				return err
			}
			signal := unix.SignalNum("SIG" + strings.TrimPrefix(strings.ToUpper(name), "SIG"))
			if signal == 0 {
				return fmt.Errorf("%q is no signal: use a name such as KILL, STOP, CONT or TERM", name)
			}
			r, err := cluster.Load(folder)
			if err != nil {
				return err
			}
			report, err := faults.Kill(cluster.Running(r), namespace, pod, container, process, signal, all)
			if err != nil {
				return err
			}
			return json.NewEncoder(command.OutOrStdout()).Encode(report)
		},
	}
	flags := command.Flags()
	flags.StringVarP(&namespace, "namespace", "n", "default", "the pod's namespace")
	flags.StringVar(&pod, "pod", "", "the pod")
	flags.StringVarP(&container, "container", "c", "", "the container, when the pod has several")
	flags.StringVar(&process, "process", faults.FirstProcess, "the program's base name, or pid1")
	flags.StringVar(&name, "signal", "KILL", "the signal's name")
	flags.BoolVar(&all, "all", false, "signal every process of that name, the oldest first, and not the oldest alone")
	if err := command.MarkFlagRequired("pod"); err != nil {
		panic(err) // a flag that was not defined above
	}
	return command
}

func diskCommand(p *places) *cobra.Command {
	return &cobra.Command{
		Use:   "disk NODE VOLUME stall|resume|fill|free",
		Short: "Make a volume of class disk hang or go on, or fill it and give the space back",
		Args:  cobra.ExactArgs(3),
		RunE: func(command *cobra.Command, args []string) error {
			folder, err := p.folder()
			if err != nil {
				return err
			}
			node, err := layout.Node(args[0])
			if err != nil {
				return err
			}
			r, err := cluster.Load(folder)
			if err != nil {
				return err
			}
			process, on := cluster.Running(r)[node.Name]
			if !on {
				return fmt.Errorf("%s is off: switch it on with `cluster node %s on`", node.Name, node.Name)
			}
			report, err := faults.Disk(folder, node, process, args[1], args[2])
			if err != nil {
				return err
			}
			return json.NewEncoder(command.OutOrStdout()).Encode(report)
		},
	}
}
