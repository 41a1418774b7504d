package failover

import (
	"strconv"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/api/v1alpha1/keys"
	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/members"
	"understudy.dev/understudy/internal/policy"
	"understudy.dev/understudy/internal/wire"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func runOf(name string) failover.Run {
	return failover.Run{Member: name, PodUID: "uid-" + name, BootID: "b"}
}

func say(s *scope, name string, change func(*wire.Status)) {
	status := wire.Status{Run: runOf(name), Eligible: true}
	change(&status)
	s.reports[name] = members.Report{
		Target: members.Target{Member: name, PodUID: status.Run.PodUID}, Connected: true, Status: &status,
	}
}

// order is a switchover of a healthy service at epoch 4, asked for a second ago.
func order(change ...func(*scope)) *scope {
	s := &scope{
		now: noon,
		fo: &v1alpha1.Failover{
			ObjectMeta: metav1.ObjectMeta{Name: "please", UID: "me", CreationTimestamp: metav1.NewTime(noon.Add(-time.Second))},
			Spec:       v1alpha1.FailoverSpec{ServiceRef: v1alpha1.LocalReference{Name: "cache"}, Type: v1alpha1.TypeSwitchover, DeadlineSeconds: 30},
		},
		service:  &v1alpha1.ReplicatedService{ObjectMeta: metav1.ObjectMeta{Name: "cache"}},
		register: &failover.Lease{Epoch: 4, Holder: runOf("cache-0"), Terms: failover.Terms{Members: policy.Members("cache", 3)}},
		reports:  map[string]members.Report{},
	}
	say(s, "cache-0", func(st *wire.Status) { st.Serving = true })
	say(s, "cache-1", func(*wire.Status) {})
	say(s, "cache-2", func(*wire.Status) {})
	for _, f := range change {
		f(s)
	}
	return s
}

func begun(s *scope) { s.fo.Status.Epoch, s.fo.Status.From = 5, "cache-0" }

func won(name string, steps ...string) func(*scope) {
	return func(s *scope) {
		record := wire.Takeover{Epoch: 5, From: runOf("cache-0"), To: runOf(name), Steps: map[string]int64{}}
		for i, step := range steps {
			record.Steps[step] = int64(i) * 1e6
		}
		s.register.Epoch, s.register.Holder = 5, runOf(name)
		say(s, name, func(st *wire.Status) { st.Takeovers = []wire.Takeover{record} })
	}
}

func another(name string, age time.Duration, change func(*v1alpha1.Failover)) func(*scope) {
	return func(s *scope) {
		o := v1alpha1.Failover{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), CreationTimestamp: metav1.NewTime(noon.Add(-age))}}
		change(&o)
		s.others = append(s.others, o, *s.fo)
	}
}

// asks makes the Failover the operator's own, about the primary of an epoch.
func asks(epoch int) func(*scope) {
	return func(s *scope) {
		s.fo.Labels = map[string]string{keys.LabelReason: "NodeCordoned"}
		s.fo.Annotations = map[string]string{keys.AnnotationAsked: strconv.Itoa(epoch)}
	}
}

func TestDecide(t *testing.T) {
	target := func(name string) func(*scope) { return func(s *scope) { s.fo.Spec.Target = name } }
	late := func(s *scope) { s.now = s.now.Add(31 * time.Second) }
	same := func(*v1alpha1.Failover) {}
	holds := func(s *scope) { say(s, "cache-0", func(*wire.Status) {}) }
	silent := func(s *scope) { delete(s.reports, "cache-0") }
	force := func(name string, epoch int64) func(*scope) {
		return func(s *scope) {
			s.fo.Spec.Type = v1alpha1.TypeForced
			s.fo.Spec.AssertDead = &v1alpha1.AssertDead{Member: name, PodUID: "uid-" + name, Epoch: epoch}
		}
	}
	for name, c := range map[string]struct {
		s       *scope
		outcome outcome
		reason  string
		words   string
		asks    bool
	}{
		"may begin":                {order(), goesOn, v1alpha1.ReasonInProgress, "cache-0 is asked", true},
		"to a target":              {order(target("cache-2")), goesOn, v1alpha1.ReasonInProgress, "cache-0 is asked", true},
		"to nobody we know":        {order(target("cache-9")), failed, v1alpha1.ReasonTargetRefused, "spec.target", false},
		"to who is it already":     {order(target("cache-0")), succeeded, v1alpha1.ReasonCompleted, "already", false},
		"the operator's, in time":  {order(asks(4)), goesOn, v1alpha1.ReasonInProgress, "cache-0 is asked", true},
		"the operator's, too late": {order(asks(3), target("cache-1")), succeeded, v1alpha1.ReasonSuperseded, "of epoch 3 was not asked any more: cache-0 is the primary of epoch 4", false},
		"a person's, with that annotation": {order(func(s *scope) {
			s.fo.Annotations = map[string]string{keys.AnnotationAsked: "3"}
		}), goesOn, v1alpha1.ReasonInProgress, "cache-0 is asked", true},
		"the operator's, begun":   {order(asks(4), begun, won("cache-1", "Detected", "Routed")), succeeded, v1alpha1.ReasonCompleted, "cache-1 is the primary of epoch 5", false},
		"forced":                  {order(force("cache-0", 4), silent), goesOn, v1alpha1.ReasonInProgress, "told that cache-0 is dead", false},
		"forced, another run":     {order(force("cache-1", 4), silent), failed, v1alpha1.ReasonTargetRefused, "cache-0 of pod UID uid-cache-0 holds epoch 4", false},
		"forced, another epoch":   {order(force("cache-0", 3), silent), failed, v1alpha1.ReasonTargetRefused, "in epoch 3", false},
		"forced, and it serves":   {order(force("cache-0", 4)), failed, v1alpha1.ReasonTargetRefused, "answers and serves", false},
		"forced, with a target":   {order(force("cache-0", 4), silent, target("cache-2")), failed, v1alpha1.ReasonFieldNotSupported, "spec.target", false},
		"no such service":         {order(func(s *scope) { s.service = nil }), failed, v1alpha1.ReasonServiceNotFound, "spec.serviceRef.name", false},
		"of a paused service":     {order(func(s *scope) { s.service.Spec.State = v1alpha1.StatePaused }), failed, v1alpha1.ReasonPaused, "spec.state", false},
		"before there is a first": {order(func(s *scope) { s.register.Epoch = 0 }), goesOn, v1alpha1.ReasonInProgress, "first primary", false},
		"the primary is silent":   {order(func(s *scope) { delete(s.reports, "cache-0") }), goesOn, v1alpha1.ReasonInProgress, "waits for primary", false},
		"silent for too long":     {order(late, func(s *scope) { delete(s.reports, "cache-0") }), failed, v1alpha1.ReasonDeadlineExceeded, "nothing was changed", false},
		"a guard refuses the target": {order(target("cache-1"), func(s *scope) {
			say(s, "cache-1", func(st *wire.Status) { st.Eligible, st.Reason, st.Explanation = false, "Lagging", "it is behind" })
		}), failed, v1alpha1.ReasonTargetRefused, "cache-1: Lagging: it is behind", false},
		"a guard refuses one of two": {order(func(s *scope) {
			say(s, "cache-1", func(st *wire.Status) { st.Eligible = false })
		}), goesOn, v1alpha1.ReasonInProgress, "", true},
		"nobody can be reached": {order(func(s *scope) { delete(s.reports, "cache-1"); delete(s.reports, "cache-2") }),
			failed, v1alpha1.ReasonTargetRefused, "cache-2 cannot be reached", false},
		"an older order goes on": {order(another("elder", time.Minute, same)), goesOn, v1alpha1.ReasonInProgress, "waits for Failover elder", false},
		"a younger order waits":  {order(another("younger", 0, same)), goesOn, v1alpha1.ReasonInProgress, "", true},
		"a younger one began":    {order(another("younger", 0, func(o *v1alpha1.Failover) { o.Status.Epoch = 5 })), goesOn, v1alpha1.ReasonInProgress, "waits for Failover younger", false},
		"an older one is done": {order(another("elder", time.Minute, func(o *v1alpha1.Failover) {
			o.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionStalled, Status: metav1.ConditionTrue}}
		})), goesOn, v1alpha1.ReasonInProgress, "", true},
		"begun, and it stopped":   {order(begun, holds), goesOn, v1alpha1.ReasonInProgress, "asked to hand over", false},
		"begun, and it is silent": {order(begun, silent), goesOn, v1alpha1.ReasonInProgress, "asked to hand over", false},
		"begun, and it serves on": {order(begun, target("cache-2")), goesOn, v1alpha1.ReasonInProgress, "asked to hand over", true},
		"it released, as it said": {order(begun, func(s *scope) { s.answered = true }), goesOn, v1alpha1.ReasonInProgress, "asked to hand over", false},
		"it serves on, too late":  {order(begun, late), goesOn, v1alpha1.ReasonInProgress, "asked to hand over", false},
		"another one holds": {order(begun, func(s *scope) {
			s.register.Holder = runOf("cache-1")
			say(s, "cache-1", func(st *wire.Status) { st.Serving = true })
		}), goesOn, v1alpha1.ReasonInProgress, "", false},
		"forced, and it serves on": {order(force("cache-0", 4), begun), goesOn, v1alpha1.ReasonInProgress, "", false},
		"granted, not routed":      {order(begun, won("cache-1", "Detected", "Granted")), goesOn, v1alpha1.ReasonInProgress, "cache-1 holds epoch 5", false},
		"routed":                   {order(begun, won("cache-1", "Detected", "Granted", "Routed")), succeeded, v1alpha1.ReasonCompleted, "cache-1 is the primary of epoch 5", false},
		"another one was better":   {order(target("cache-2"), begun, won("cache-1", "Routed")), succeeded, v1alpha1.ReasonCompleted, "cache-2 was asked for", false},
		"never ended":              {order(begun, late, late), failed, v1alpha1.ReasonDeadlineExceeded, "did not end in time", false},
		"ended unseen":             {order(begun, late, late, func(s *scope) { s.register.Epoch = 6 }), succeeded, v1alpha1.ReasonCompleted, "record of the change was lost", false},
	} {
		t.Run(name, func(t *testing.T) {
			got := decide(c.s)
			if got.outcome != c.outcome || got.reason != c.reason || !strings.Contains(got.message, c.words) || (got.ask != nil) != c.asks {
				t.Errorf("decided %+v", got)
			}
			if got.repeated != (got.ask != nil && c.s.fo.Status.Epoch > 0) {
				t.Errorf("repeated is %t", got.repeated)
			}
			if got.ask != nil && (got.ask.Epoch != 4 || got.ask.Target != c.s.fo.Spec.Target || got.ask.ID != "me") {
				t.Errorf("asks %+v", got.ask)
			}
			if got.assert != nil && (len(got.assert.Evidence) != 1 || got.assert.Evidence[0] != (failover.Evidence{Kind: failover.Asserted, Run: runOf("cache-0"), Epoch: 4})) {
				t.Errorf("asserts %+v", got.assert)
			}
			if got.outcome == goesOn && got.ask == nil && got.assert == nil && got.again <= 0 {
				t.Error("nobody would look at it again")
			}
		})
	}
}

func TestFill(t *testing.T) {
	var status v1alpha1.FailoverStatus
	fill(&status, wire.Takeover{
		Epoch: 5, From: runOf("cache-0"), To: runOf("cache-1"), Evidence: failover.ProcessGone, WallNanos: noon.UnixNano(), BytesLost: 12,
		Steps: map[string]int64{"Routed": 31_600_000, "Detected": 0, "Granted": 12_345_678, "Unheard": 5},
	})
	if status.From != "cache-0" || status.To != "cache-1" || status.Epoch != 5 || status.Evidence != v1alpha1.EvidenceProcessGone ||
		*status.BytesLost != 12 || status.BytesLostPrecision != v1alpha1.LossAtLeast || *status.ElapsedMilliseconds != 32 || !status.StartTime.Time.Equal(noon) {
		t.Errorf("status %+v", status)
	}
	if len(status.Timeline) != 3 || status.Timeline[0].Step != v1alpha1.StepDetected || *status.Timeline[1].ElapsedMicroseconds != 12345 || status.Timeline[2].Step != v1alpha1.StepRouted {
		t.Errorf("timeline %+v", status.Timeline)
	}
}
