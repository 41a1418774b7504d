package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"understudy.dev/understudy/test/internal/faults"
	"understudy.dev/understudy/test/internal/rounds"
	"understudy.dev/understudy/test/internal/stats"
)

// Report is everything that was measured.
type Report struct {
	Environment Environment `json:"environment"`
	Results     []*Result   `json:"results,omitempty"`
	Rest        *Rest       `json:"rest,omitempty"`
	Strain      *Strain     `json:"strain,omitempty"`
	Latency     *Latency    `json:"latency,omitempty"`
}

// Result is one fault against one subject.
type Result struct {
	Subject string      `json:"subject"`
	Fault   faults.Kind `json:"fault"`
	// OutageMilliseconds over the rounds in which the fault was made. One that did not end counts as long as it was
	// waited for.
	OutageMilliseconds stats.Summary `json:"outageMilliseconds"`
	// RedundantMilliseconds from the fault until the service could take the next one.
	RedundantMilliseconds stats.Summary `json:"redundantMilliseconds"`
	Failed                int           `json:"failed"`
	Acknowledged          int           `json:"acknowledged"`
	// Lost acknowledged writes: of all rounds, in the worst one, and in how many rounds there were any.
	Lost           int `json:"lost"`
	LostMax        int `json:"lostMax"`
	RoundsWithLoss int `json:"roundsWithLoss"`
	Unknown        int `json:"unknown"`
	// Evidence by how many rounds it was seen in; Timeline has the median milliseconds since Detected by step.
	Evidence map[string]int     `json:"evidence"`
	Timeline map[string]float64 `json:"timelineMilliseconds"`
	Rounds   []rounds.Record    `json:"rounds"`
}

func milliseconds(us int64) float64 { return float64(us) / 1000 }

func (r *Report) add(subject string, record rounds.Record) {
	var to *Result
	for _, there := range r.Results {
		if there.Subject == subject && there.Fault == record.Fault {
			to = there
		}
	}
	if to == nil {
		to = &Result{Subject: subject, Fault: record.Fault}
		r.Results = append(r.Results, to)
	}
	to.Rounds = append(to.Rounds, record)
	to.sum()
}

func (r *Result) sum() {
	*r = Result{Subject: r.Subject, Fault: r.Fault, Rounds: r.Rounds, Evidence: map[string]int{}, Timeline: map[string]float64{}}
	var outages, redundant []float64
	steps := map[string][]float64{}
	for i := range r.Rounds {
		round := &r.Rounds[i]
		// Losses count in failed rounds too: a round that fails is no excuse.
		r.Acknowledged += round.Acknowledged
		r.Unknown += round.Unknown
		r.Lost += round.Verification.Lost
		r.LostMax = max(r.LostMax, round.Verification.Lost)
		if round.Verification.Lost > 0 {
			r.RoundsWithLoss++
		}
		if !round.FaultAt.IsZero() {
			outages = append(outages, milliseconds(round.Longest().Microseconds))
		}
		if round.RedundantMicroseconds > 0 {
			redundant = append(redundant, milliseconds(round.RedundantMicroseconds))
		}
		if round.Error != "" {
			r.Failed++
			continue
		}
		if round.Evidence != "" {
			r.Evidence[round.Evidence]++
		}
		for step, us := range round.Timeline {
			steps[step] = append(steps[step], milliseconds(us))
		}
	}
	r.OutageMilliseconds, r.RedundantMilliseconds = stats.Of(outages), stats.Of(redundant)
	for step, values := range steps {
		r.Timeline[step] = stats.Median(values)
	}
}

func (r *Report) failed() int {
	n := 0
	for _, result := range r.Results {
		n += result.Failed
	}
	return n
}

func (r *Report) print(w io.Writer) {
	r.Environment.print(w)
	if r.Rest != nil {
		r.Rest.print(w)
	}
	if r.Strain != nil {
		r.Strain.print(w)
	}
	if r.Latency != nil {
		r.Latency.print(w)
	}
	if len(r.Results) == 0 {
		return
	}
	fmt.Fprintln(w, "\nOutage of writes as a client on another node sees it through the ClusterIP, ms: from the last acknowledged write to the next.")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "SUBJECT\tFAULT\tROUNDS\tP50\tP90\tP99\tMAX\tACKNOWLEDGED\tLOST\tLOST MAX\tUNKNOWN\tFAILED\tEVIDENCE")
	for _, x := range r.Results {
		o := x.OutageMilliseconds
		fmt.Fprintf(t, "%s\t%s\t%d\t%.1f\t%.1f\t%.1f\t%.1f\t%d\t%d\t%d\t%d\t%d\t%s\n", x.Subject, x.Fault, o.Count, o.P50, o.P90,
			o.P99, o.Max, x.Acknowledged, x.Lost, x.LostMax, x.Unknown, x.Failed, counted(x.Evidence))
	}
	_ = t.Flush()
	r.printRedundant(w)
	r.printSteps(w)
}

func (r *Report) printRedundant(w io.Writer) {
	if !slices.ContainsFunc(r.Results, func(x *Result) bool { return x.RedundantMilliseconds.Count > 0 }) {
		return
	}
	fmt.Fprintln(w, "\nTime back to full redundancy, s: from the fault until every member is there again and the service could take the next one; no less than the round.")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "SUBJECT\tFAULT\tROUNDS\tP50\tP90\tMAX")
	for _, x := range r.Results {
		if s := x.RedundantMilliseconds; s.Count > 0 {
			fmt.Fprintf(t, "%s\t%s\t%d\t%.1f\t%.1f\t%.1f\n", x.Subject, x.Fault, s.Count, s.P50/1000, s.P90/1000, s.Max/1000)
		}
	}
	_ = t.Flush()
}

var steps = []string{"Detected", "Promised", "Granted", "Confirmed", "Promoted", "Routed"}

func (r *Report) printSteps(w io.Writer) {
	if !slices.ContainsFunc(r.Results, func(x *Result) bool { return len(x.Timeline) > 0 }) {
		return
	}
	fmt.Fprintln(w, "\nWhen each step was done, ms since Detected, by the new primary's clock (median):")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "SUBJECT\tFAULT\t"+strings.ToUpper(strings.Join(steps, "\t")))
	for _, x := range r.Results {
		if len(x.Timeline) == 0 {
			continue
		}
		line := x.Subject + "\t" + string(x.Fault)
		for _, step := range steps {
			if ms, ok := x.Timeline[step]; ok {
				line += fmt.Sprintf("\t%.1f", ms)
			} else {
				line += "\t-"
			}
		}
		fmt.Fprintln(t, line)
	}
	_ = t.Flush()
}

func counted(m map[string]int) string {
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, fmt.Sprintf("%s %d", key, m[key]))
	}
	return strings.Join(parts, ", ")
}
