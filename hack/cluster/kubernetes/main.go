// Command kubernetes is every Kubernetes program the cluster runs, in one binary.
//
// One binary links the shared code once: 145 MB instead of six times 60 to 120 MB, and one compile instead of six.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	_ "time/tzdata" // time zones of CronJobs, also on machines without a zone database

	"github.com/spf13/cobra"
	_ "k8s.io/client-go/plugin/pkg/client/auth"
	"k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

// programs holds constructors, not commands: building a command registers flags and metrics, and only the one that
// runs may do so.
var programs = map[string]func(){
	"kube-apiserver":          component(func() *cobra.Command { return apiserver.NewAPIServerCommand() }),
	"kube-controller-manager": component(func() *cobra.Command { return controllermanager.NewControllerManagerCommand() }),
	"kube-scheduler":          component(func() *cobra.Command { return scheduler.NewSchedulerCommand() }),
	"kube-proxy":              component(func() *cobra.Command { return proxy.NewProxyCommand() }),
	"kubelet":                 component(func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) }),
	"kubectl":                 runKubectl,
}

func main() {
	// By name first, so that symlinks serve tools that look for kube-apiserver and kubectl in one folder.
	if run, found := programs[filepath.Base(os.Args[0])]; found {
		run()
		return
	}
	if len(os.Args) > 1 {
		if run, found := programs[os.Args[1]]; found {
			os.Args = os.Args[1:]
			run()
			return
		}
	}
	fmt.Fprintf(os.Stderr, "usage: %s PROGRAM [ARGUMENTS], or run it under the program's name; programs: %s\n",
		filepath.Base(os.Args[0]), strings.Join(names(), ", "))
	os.Exit(2)
}

func names() []string {
	var all []string
	for name := range programs {
		all = append(all, name)
	}
	sort.Strings(all)
	return all
}

func component(build func() *cobra.Command) func() {
	return func() { os.Exit(cli.Run(build())) }
}

func runKubectl() {
	// kubectl logs while its command is being built (plugins, preferences), before flags are parsed.
	_, _ = logs.GlogSetter(kubectl.GetLogVerbosity(os.Args))
	if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
		kubectlutil.CheckErr(err)
	}
}
