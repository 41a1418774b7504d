package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/test/internal/faults"
	"understudy.dev/understudy/test/internal/rounds"
)

type act struct {
	fault faults.Kind
	title string
}

func acts(process string) []act {
	return []act{
		{faults.EngineKill, "The primary's engine is killed: SIGKILL of " + process},
		{faults.ContainerKill, "The primary's container is killed: SIGKILL of its PID 1, the agent"},
		{faults.PodDelete, "The primary's pod is deleted: kubectl delete pod"},
		{faults.Switchover, "A person asks for a switchover: kubectl create -f config/samples/switchover.yaml"},
	}
}

// evidence in plain words.
var evidence = map[string]string{
	string(v1alpha1.EvidenceReleased):            "the old primary had killed its engine itself and said so",
	string(v1alpha1.EvidenceProcessGone):         "the kernel had closed the old primary's connections and its port refuses",
	string(v1alpha1.EvidenceContainerTerminated): "the kubelet reports the old primary's container as terminated",
	string(v1alpha1.EvidenceNodeOutOfService):    "its node carries the out-of-service taint",
	string(v1alpha1.EvidenceQuorumCut):           "so many replicas had cut their link to it that it could acknowledge nothing any more",
	string(v1alpha1.EvidenceLeaseExpired):        "it was silent until its right to write had run out",
}

var steps = []struct{ name, meaning string }{
	{string(v1alpha1.StepDetected), "it learned that the old one is gone"},
	{string(v1alpha1.StepPromised), "a majority promised to follow nobody older"},
	{string(v1alpha1.StepGranted), "the Lease names it"},
	{string(v1alpha1.StepConfirmed), "a majority acknowledged its first heartbeat"},
	{string(v1alpha1.StepPromoted), "its engine accepts writes"},
	{string(v1alpha1.StepRouted), "the Service leads to it"},
}

func (d demo) play(ctx context.Context, number int, a act) error {
	id := fmt.Sprintf("demo-%s-%d", time.Now().UTC().Format("150405"), number)
	record, err := d.runner.Run(ctx, a.fault, id)
	d.say("\n%d. %s", number, a.title)
	if err != nil {
		return d.explain(ctx, err)
	}
	d.say("%s", tell(record))
	return nil
}

func tell(r rounds.Record) string {
	var out strings.Builder
	fmt.Fprintf(&out, "   %s on %s took over from %s on %s as epoch %d.\n", r.To, r.ToNode, r.From, r.FromNode, r.Epoch)
	lost := "none was lost"
	if n := r.Verification.Lost; n > 0 {
		lost = fmt.Sprintf("%d of them were lost", n)
	}
	fmt.Fprintf(&out, "   The client saw no write acknowledged for %.1f ms. %d writes were acknowledged in all, and %s.\n",
		float64(r.Outage.Microseconds)/1000, r.Acknowledged, lost)
	if r.Evidence != "" {
		fmt.Fprintf(&out, "   Evidence %s: %s.\n", r.Evidence, evidence[r.Evidence])
	}
	for _, step := range steps {
		if us, ok := r.Timeline[step.name]; ok {
			fmt.Fprintf(&out, "   %8.1f ms  %-9s  %s\n", float64(us)/1000, step.name, step.meaning)
		}
	}
	return strings.TrimRight(out.String(), "\n")
}
