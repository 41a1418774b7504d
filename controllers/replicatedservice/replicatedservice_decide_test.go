package replicatedservice

import (
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/api/v1alpha1/keys"
	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/members"
	"understudy.dev/understudy/internal/names"
	"understudy.dev/understudy/internal/policy"
	"understudy.dev/understudy/internal/wire"
	"understudy.dev/understudy/internal/workload"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// scene is a service of three with running, empty members, a Lease at epoch 0 and an empty slice.
func scene(change ...func(*scope)) *scope {
	svc := &v1alpha1.ReplicatedService{
		ObjectMeta: metav1.ObjectMeta{Name: "cache", Namespace: "default", UID: "uid", Generation: 1},
		Spec: v1alpha1.ReplicatedServiceSpec{
			Replicas: ptr.To[int32](3), Engine: v1alpha1.EngineSpec{Redis: &v1alpha1.RedisSpec{Port: 6379}},
		},
	}
	s := &scope{
		now: noon, svc: svc, effective: svc, pods: map[string]*corev1.Pod{}, reports: map[string]members.Report{},
		policy: policy.Defaults(), known: true, memory: &memory{},
		slices: []discoveryv1.EndpointSlice{*workload.PrimarySlice(svc, corev1.IPv4Protocol)},
	}
	s.register = &failover.Lease{Version: "1", Terms: policy.Terms(s.policy, v1alpha1.ReplicatedServiceSpec{}, policy.Members("cache", 3))}
	for i, name := range s.memberNames() {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("uid-" + name)}}
		pod.Status.Phase, pod.Status.PodIP = corev1.PodRunning, "10.0.0."+string(rune('1'+i))
		pod.Spec.NodeName = "node"
		pod.Status.PodIPs = []corev1.PodIP{{IP: pod.Status.PodIP}}
		pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
		s.pods[name] = pod
		say(s, name, func(*wire.Status) {})
	}
	for _, f := range change {
		f(s)
	}
	return s
}

func runOf(name string) failover.Run {
	return failover.Run{Member: name, PodUID: "uid-" + name, BootID: "b"}
}

func say(s *scope, name string, change func(*wire.Status)) {
	status := wire.Status{Run: runOf(name), Role: "Replica", State: "Starting", LagBytes: -1, Running: true}
	change(&status)
	s.reports[name] = members.Report{
		Target: members.Target{Member: name, PodUID: status.Run.PodUID}, Connected: true, Tried: true, Status: &status,
	}
}

func silence(s *scope, name string) {
	r := s.reports[name]
	r.Connected = false
	s.reports[name] = r
}

// playing is the scene with cache-0 serving an epoch and the others following.
func playing(epoch failover.Epoch, change ...func(*scope)) *scope {
	s := scene(func(s *scope) {
		s.register.Epoch, s.register.Holder = epoch, runOf("cache-0")
		say(s, "cache-0", func(st *wire.Status) { st.Epoch, st.Serving, st.State, st.Role = epoch, true, "Serving", "Primary" })
		for _, name := range []string{"cache-1", "cache-2"} {
			say(s, name, func(st *wire.Status) { st.Epoch, st.State, st.Eligible, st.LagBytes = epoch, "Following", true, 0 })
		}
		lead(s, epoch, "cache-0")
	})
	for _, f := range change {
		f(s)
	}
	return s
}

func lead(s *scope, epoch failover.Epoch, name string) {
	e, _ := workload.Endpoint(s.pods[name], corev1.IPv4Protocol)
	s.slices[0].Annotations[keys.AnnotationEpoch] = string(rune('0' + epoch))
	s.slices[0].Endpoints = []discoveryv1.Endpoint{e}
}

func TestDecideLease(t *testing.T) {
	for name, c := range map[string]struct {
		s       *scope
		do      string
		problem string
		waiting string
	}{
		"there is none":          {scene(func(s *scope) { s.register = nil }), "create", "", ""},
		"none, and no policy":    {scene(func(s *scope) { s.register, s.known = nil, false }), "", "", "FailoverPolicy"},
		"none, and unbuildable":  {scene(func(s *scope) { s.register, s.problems = nil, []Problem{{Blocking: true}} }), "", "", ""},
		"all are empty":          {scene(), "grant", "", ""},
		"one did not answer":     {scene(func(s *scope) { silence(s, "cache-1") }), "", "", "cache-1"},
		"the first is silent":    {scene(func(s *scope) { silence(s, "cache-0") }), "", "", "cache-0"},
		"an answer of a new pod": {scene(func(s *scope) { say(s, "cache-1", func(st *wire.Status) { st.Run.PodUID = "new" }) }), "grant", "", ""},
		"one has data":           {scene(func(s *scope) { say(s, "cache-2", func(st *wire.Status) { st.HasData = true }) }), "", v1alpha1.ReasonDataFound, ""},
		"one promised":           {scene(func(s *scope) { say(s, "cache-2", func(st *wire.Status) { st.Promise = 4 }) }), "", v1alpha1.ReasonLeaseLost, ""},
		"paused before it began": {scene(func(s *scope) { s.svc.Spec.State = v1alpha1.StatePaused; s.register.Terms.Mode = failover.ModePaused }), "", "", ""},
		"terms changed at 0":     {scene(func(s *scope) { s.policy.Detection.LeaseDurationMilliseconds = 1500 }), "terms", "", ""},
		"the slice knows more":   {scene(func(s *scope) { lead(s, 3, "cache-0") }), "", v1alpha1.ReasonLeaseLost, ""},
		"the status knows more": {scene(func(s *scope) {
			s.register, s.svc.Status.Primary = nil, &v1alpha1.PrimaryStatus{Name: "cache-0", Epoch: 2}
		}), "", v1alpha1.ReasonLeaseLost, ""},
		"it was set back":           {playing(2, func(s *scope) { s.svc.Status.Primary = &v1alpha1.PrimaryStatus{Name: "cache-0", Epoch: 5} }), "", v1alpha1.ReasonLeaseLost, ""},
		"healthy":                   {playing(2), "", "", ""},
		"healthy, the mode changed": {playing(2, func(s *scope) { s.policy.Mode = v1alpha1.ModeManual }), "terms", "", ""},
		"healthy, paused":           {playing(2, func(s *scope) { s.svc.Spec.State = v1alpha1.StatePaused }), "terms", "", ""},
		"healthy, times changed":    {playing(2, func(s *scope) { s.policy.Detection.LeaseDurationMilliseconds = 1500 }), "", "", ""},
		"healthy, policy gone":      {playing(2, func(s *scope) { s.known = false }), "", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			step := decideLease(c.s, c.s.register, c.s.routedEpoch())
			do, reason := doing(c.s.register, step), ""
			if p := leaseProblem(c.s, c.s.register, step); p != nil {
				reason = p.Reason
			}
			if waiting := strings.Join(step.Waiting, ", "); do != c.do || reason != c.problem || !strings.Contains(waiting, c.waiting) {
				t.Errorf("do %q (want %q), problem %q (want %q), waiting %q", do, c.do, reason, c.problem, waiting)
			}
			if do == "grant" && (step.Write.Epoch != 1 || step.Write.Holder != c.s.reports["cache-0"].Status.Run) {
				t.Errorf("granted %+v", step.Write)
			}
			if do == "terms" && (step.Write.Epoch != c.s.register.Epoch || step.Write.Holder != c.s.register.Holder) {
				t.Errorf("terms with another holder: %+v", step.Write)
			}
		})
	}
}

// doing names what a step does to the Lease that there is.
func doing(have *failover.Lease, step failover.LeaseStep) string {
	switch {
	case step.Write == nil:
		return ""
	case step.Create && step.Write.Epoch == 0:
		return "create"
	case have != nil && step.Write.Epoch == have.Epoch:
		return "terms"
	case step.Write.Epoch == 1:
		return "grant"
	}
	return "restore"
}

// TestLostLease: a majority of the members' own words make a lost Lease anew, above every epoch that anybody knows.
func TestLostLease(t *testing.T) {
	for name, c := range map[string]struct {
		lost   func(s *scope)
		holder string
	}{
		"deleted":             {func(s *scope) { s.register = nil }, "cache-0"},
		"set back":            {func(s *scope) { s.register.Epoch = 1 }, "cache-0"},
		"one does not answer": {func(s *scope) { s.register = nil; silence(s, "cache-2") }, "cache-0"},
		"too few answer":      {func(s *scope) { s.register = nil; silence(s, "cache-1"); silence(s, "cache-2") }, ""},
		"nobody serves":       {func(s *scope) { s.register = nil; s.reports["cache-0"].Status.Serving = false }, "cache-0"},
	} {
		t.Run(name, func(t *testing.T) {
			s := playing(4)
			was := *s.register
			for _, r := range s.reports {
				r.Status.Lease = &was
			}
			c.lost(s)
			step := decideLease(s, s.register, s.routedEpoch())
			switch {
			case c.holder == "" && (step.Write != nil || step.Problem != failover.LeaseLost):
				t.Errorf("%+v; want no guess", step)
			case c.holder != "" && (step.Write == nil || step.Write.Epoch != 5 || step.Write.Holder != was.Holder || step.Create != (s.register == nil)):
				t.Errorf("%+v; want epoch 5 of %s", step.Write, was.Holder)
			}
		})
	}
}

func TestDecideRoute(t *testing.T) {
	running := func(s *scope, name string, runs bool) {
		state := corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}
		if runs {
			state = corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
		}
		s.pods[name].Status.ContainerStatuses = []corev1.ContainerStatus{{Name: names.EngineContainer, State: state}}
	}
	for name, c := range map[string]struct {
		s    *scope
		want routeDo
	}{
		"as it should be":               {playing(2), routeKeep},
		"not routed":                    {playing(2, func(s *scope) { s.slices[0].Endpoints = nil }), routeServe},
		"routed under an older epoch":   {playing(2, func(s *scope) { lead(s, 1, "cache-0") }), routeServe},
		"leads to another":              {playing(2, func(s *scope) { lead(s, 2, "cache-1") }), routeServe},
		"serves, the Lease says else":   {playing(2, func(s *scope) { s.register.Holder = runOf("cache-1"); lead(s, 1, "cache-1") }), routeKeep},
		"serves a later epoch":          {playing(2, func(s *scope) { s.register.Epoch = 1; lead(s, 1, "cache-1") }), routeKeep},
		"nobody serves, it says so":     {playing(2, func(s *scope) { say(s, "cache-0", func(*wire.Status) {}) }), routeEmpty},
		"nobody serves, pod is gone":    {playing(2, func(s *scope) { delete(s.pods, "cache-0"); delete(s.reports, "cache-0") }), routeEmpty},
		"nobody serves, another pod":    {playing(2, func(s *scope) { s.pods["cache-0"].UID = "new"; silence(s, "cache-0") }), routeEmpty},
		"unreachable, container ended":  {playing(2, func(s *scope) { silence(s, "cache-0"); running(s, "cache-0", false) }), routeEmpty},
		"unreachable, container runs":   {playing(2, func(s *scope) { silence(s, "cache-0"); running(s, "cache-0", true) }), routeKeep},
		"unreachable, nothing is known": {playing(2, func(s *scope) { silence(s, "cache-0") }), routeKeep},
	} {
		if got := decideRoute(c.s, c.s.slices); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

func TestStatus(t *testing.T) {
	const yes, no = metav1.ConditionTrue, metav1.ConditionFalse
	type want struct {
		kind   string
		status metav1.ConditionStatus
		reason string
		words  string
	}
	for name, c := range map[string]struct {
		s    *scope
		want []want
	}{
		"healthy": {playing(3), []want{
			{v1alpha1.ConditionReady, yes, v1alpha1.ReasonHealthy, "cache-0 serves epoch 3"},
			{v1alpha1.ConditionStalled, no, v1alpha1.ReasonNotStalled, ""},
			{v1alpha1.ConditionReconciling, no, v1alpha1.ReasonReconciled, ""},
			{v1alpha1.ConditionFailoverPossible, yes, v1alpha1.ReasonCandidatesReady, "cache-1, cache-2"},
		}},
		"bootstrapping": {scene(), []want{{v1alpha1.ConditionAvailable, no, v1alpha1.ReasonBootstrapping, ""}}},
		"guards refuse all": {playing(3, func(s *scope) {
			say(s, "cache-1", func(st *wire.Status) { st.State, st.Reason, st.Explanation = "CatchingUp", "Lagging", "it is behind" })
			silence(s, "cache-2")
		}), []want{
			{v1alpha1.ConditionFailoverPossible, no, v1alpha1.ReasonNoCandidate, "cache-1: Lagging: it is behind; cache-2: its agent does not answer"},
			{v1alpha1.ConditionRedundant, no, v1alpha1.ReasonReplicasMissing, "cache-1 (CatchingUp), cache-2"},
			{v1alpha1.ConditionAvailable, yes, v1alpha1.ReasonPrimaryServing, ""},
		}},
		"two of three are lost": {playing(3, func(s *scope) { silence(s, "cache-0"); silence(s, "cache-1") }), []want{
			{v1alpha1.ConditionAvailable, no, v1alpha1.ReasonNoPrimary, "cache-0 holds epoch 3 and cannot be reached"},
			{v1alpha1.ConditionFailoverPossible, no, v1alpha1.ReasonNoCandidate, "cache-2 could take over if a majority of the members agreed, and too few answer the operator: cache-0: "},
		}},
		"and are proven gone": {playing(3, func(s *scope) {
			silence(s, "cache-0")
			silence(s, "cache-1")
			s.gone = map[string]string{"cache-1": "uid-1"}
		}), []want{{v1alpha1.ConditionFailoverPossible, yes, v1alpha1.ReasonCandidatesReady, "cache-2 could take over now"}}},
		"one of two is lost": {playing(3, func(s *scope) {
			s.effective.Spec.Replicas = ptr.To[int32](2)
			s.register.Terms.Members = policy.Members("cache", 2)
			silence(s, "cache-0")
		}), []want{{v1alpha1.ConditionFailoverPossible, yes, v1alpha1.ReasonCandidatesReady, "cache-1 could take over now"}}},
		"failing over": {playing(3, func(s *scope) {
			say(s, "cache-0", func(*wire.Status) {})
		}), []want{{v1alpha1.ConditionAvailable, no, v1alpha1.ReasonFailingOver, "cache-0 holds epoch 3"}}},
		"not routed": {playing(3, func(s *scope) { s.slices[0].Endpoints = nil }), []want{
			{v1alpha1.ConditionAvailable, no, v1alpha1.ReasonFailingOver, "does not lead to it yet"},
		}},
		"holder gone, manual": {playing(3, func(s *scope) { silence(s, "cache-0"); s.register.Terms.Mode = failover.ModeManual }), []want{
			{v1alpha1.ConditionAvailable, no, v1alpha1.ReasonNoPrimary, "nobody takes over in mode Manual"},
		}},
		"paused": {playing(3, func(s *scope) { s.svc.Spec.State = v1alpha1.StatePaused }), []want{
			{v1alpha1.ConditionReady, no, v1alpha1.ReasonPaused, "spec.state"},
			{v1alpha1.ConditionAvailable, yes, v1alpha1.ReasonPrimaryServing, ""},
			{v1alpha1.ConditionFailoverPossible, no, v1alpha1.ReasonPaused, ""},
		}},
		"one member": {playing(3, func(s *scope) {
			s.svc.Spec.Replicas = ptr.To[int32](1)
		}), []want{
			{v1alpha1.ConditionReady, yes, v1alpha1.ReasonHealthy, ""},
			{v1alpha1.ConditionFailoverPossible, no, v1alpha1.ReasonSingleReplica, ""},
		}},
		"a problem that stops nothing": {playing(3, func(s *scope) { s.problems = []Problem{{Reason: "X", Message: "do this"}} }), []want{
			{v1alpha1.ConditionReady, no, "X", "do this"},
			{v1alpha1.ConditionStalled, yes, "X", "do this"},
			{v1alpha1.ConditionAvailable, yes, v1alpha1.ReasonPrimaryServing, ""},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			status := computeStatus(c.s)
			if len(status.Conditions) != len(conditionOrder) {
				t.Errorf("%d conditions, all of %v must be there always", len(status.Conditions), conditionOrder)
			}
			for _, w := range c.want {
				have := meta.FindStatusCondition(status.Conditions, w.kind)
				if have.Status != w.status || have.Reason != w.reason || !strings.Contains(have.Message, w.words) {
					t.Errorf("want %+v, have %+v", w, *have)
				}
			}
		})
	}
}

// The Lease names the members in the zone where the primary is wanted, by their nodes' label or what the pod has of it.
func TestPreferredZone(t *testing.T) {
	s := playing(3)
	s.svc.Spec.Placement = &v1alpha1.PlacementSpec{PreferredZone: "zone-2"}
	s.nodes = map[string]*corev1.Node{}
	for i, name := range s.memberNames() {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-" + name, Labels: map[string]string{corev1.LabelTopologyZone: "zone-" + string(rune('1'+i))}}}
		s.pods[name].Spec.NodeName, s.nodes[node.Name] = node.Name, node
	}
	if got := preferred(s); !slices.Equal(got, []string{"cache-1"}) {
		t.Errorf("preferred are %v", got)
	}
	delete(s.nodes, "node-cache-2")
	s.pods["cache-2"].Labels = map[string]string{corev1.LabelTopologyZone: "zone-2"}
	if got := preferred(s); !slices.Equal(got, []string{"cache-1", "cache-2"}) {
		t.Errorf("preferred are %v", got)
	}
	if step := decideLease(s, s.register, 3); step.Write == nil || !slices.Equal(step.Write.Terms.Preferred, []string{"cache-1", "cache-2"}) {
		t.Errorf("the step %+v does not write them", step)
	}
	s.register.Terms.Preferred, s.pods["cache-1"].Spec.NodeName = []string{"cache-1"}, ""
	if got := preferred(s); !slices.Equal(got, []string{"cache-1", "cache-2"}) {
		t.Errorf("preferred are %v while cache-1 is between two nodes", got)
	}
	if got := preferredFirst(s); !slices.Equal(got, []string{"cache-1", "cache-2", "cache-0"}) {
		t.Errorf("the order of targets is %v", got)
	}
	s.svc.Spec.Placement = nil
	if got := preferred(s); got != nil {
		t.Errorf("preferred are %v without a zone", got)
	}
}

// Where the mode leaves it to people, the condition says how one approves of the takeover of this one epoch, and the Lease says that one did.
func TestApproval(t *testing.T) {
	s := playing(3, func(s *scope) { s.register.Terms.Mode, s.policy.Mode = failover.ModeManual, v1alpha1.ModeManual })
	command := "kubectl annotate rsvc cache -n default " + keys.AnnotationApproved + "=3 --overwrite"
	if got := candidatesReady(s); !got.ok || !strings.Contains(got.message, command) {
		t.Errorf("%+v does not tell of %q", got, command)
	}
	for value, want := range map[string]failover.Epoch{"2": 0, "3": 3, "4": 0, "all": 0} {
		s.svc.Annotations = map[string]string{keys.AnnotationApproved: value}
		if got := s.wantedTerms(nil).Approved; got != want {
			t.Errorf("%q approves of epoch %d, want %d", value, got, want)
		}
	}
	s.register.Terms.Approved = 3
	if got := candidatesReady(s); !strings.Contains(got.message, "approved for epoch 3") {
		t.Errorf("%+v does not tell that it was approved", got)
	}
}

// A lag that was shown is looked at again, and is not shown any more when it is over.
func TestShownLagEnds(t *testing.T) {
	s := playing(3)
	lags := func(bytes int64) int64 {
		say(s, "cache-1", func(st *wire.Status) { st.Epoch, st.State, st.Eligible, st.LagBytes = 3, "Following", true, bytes })
		s.next = time.Time{}
		status := memberStatuses(s)
		s.svc.Status.Members = status
		return *status[1].LagBytes
	}
	s.svc.Status.Members = nil
	if got := lags(4 << 20); got != 4<<20 || s.next.Sub(s.now) != lagAgain {
		t.Errorf("shows %d and looks again at %s", got, s.next)
	}
	if got := lags(2 << 20); got != 4<<20 {
		t.Errorf("shows %d: half of it is no reason to write a status", got)
	}
	if got := lags(100); got != 0 || !s.next.IsZero() {
		t.Errorf("shows %d after it was over, and looks again at %s", got, s.next)
	}
}

// TestStatusAtRest: lag that moves writes nothing; the last primary is never forgotten.
func TestStatusAtRest(t *testing.T) {
	s := playing(3)
	s.svc.Status = computeStatus(s)
	say(s, "cache-1", func(st *wire.Status) { st.Epoch, st.State, st.Eligible, st.LagBytes = 3, "Following", true, 900000 })
	s.now = noon.Add(time.Hour)
	again := computeStatus(s)
	if len(eventsOf(s.svc.Status, again)) != 0 || *again.Members[1].LagBytes != 0 || !again.Primary.Since.Time.Equal(noon) {
		t.Errorf("lag alone changed the status to %+v", again)
	}
	for _, name := range s.memberNames() {
		silence(s, name)
	}
	if p := computeStatus(s).Primary; p == nil || p.Epoch != 3 {
		t.Errorf("the epoch was forgotten: %+v", p)
	}
}

// TestNotHeardYet: right after its start the operator calls nobody unreachable.
func TestNotHeardYet(t *testing.T) {
	s := playing(3)
	s.svc.Status = computeStatus(s)
	if !s.ready() {
		t.Fatal("all were heard")
	}
	s.reports = map[string]members.Report{}
	if s.ready() {
		t.Error("a status would be written of members that nobody asked")
	}
	for _, now := range []workload.Evictions{{One: true, Unready: true}, {Unready: true}, {}} {
		s.budget = budgetOf(s, now)
		if next := nextEvictions(s); next != now {
			t.Errorf("on every start of the operator the budget would change from %+v to %+v", now, next)
		}
	}
}

func TestLastFailover(t *testing.T) {
	s := playing(3)
	say(s, "cache-0", func(st *wire.Status) {
		st.Epoch, st.Serving = 3, true
		st.Takeovers = []wire.Takeover{{Epoch: 1}, {Epoch: 2, From: runOf("cache-2"), To: runOf("cache-1")}, {Epoch: 3, From: runOf("cache-1"), To: runOf("cache-0"), WallNanos: noon.UnixNano()}}
	})
	s.failovers = []v1alpha1.Failover{{ObjectMeta: metav1.ObjectMeta{Name: "please"}, Status: v1alpha1.FailoverStatus{Epoch: 3}}}
	if last := lastFailover(s); last == nil || last.Epoch != 3 || last.From != "cache-1" || last.To != "cache-0" || last.Name != "please" || !last.Time.Time.Equal(noon) {
		t.Errorf("last failover %+v", last)
	}
}

// TestMissingPods: a person is told only when pods are missing for long.
func TestMissingPods(t *testing.T) {
	s := playing(3, func(s *scope) { delete(s.pods, "cache-2") })
	s.set = nil
	if p := missingProblems(s); len(p) != 0 {
		t.Errorf("without a StatefulSet: %v", p)
	}
	s.set = workloadSet(s)
	if p := missingProblems(s); len(p) != 0 || s.next.Sub(noon) != missingFor {
		t.Errorf("at once: %v, look again at %s", p, s.next)
	}
	s.now = noon.Add(missingFor)
	if p := missingProblems(s); len(p) != 1 || p[0].Reason != v1alpha1.ReasonPodRefused || !strings.Contains(p[0].Message, "cache-2") {
		t.Errorf("after %s: %v", missingFor, p)
	}
}

func workloadSet(s *scope) *appsv1.StatefulSet {
	return workload.StatefulSet(workload.Input{Service: s.svc})
}
