package replicatedservice

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/api/v1alpha1/keys"
	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/wire"
	"understudy.dev/understudy/internal/workload"
)

// lagGranularity: less than this is shown as 0, since it changes with every write.
const lagGranularity = 64 << 10

// A lag that is shown is looked at again after lagAgain, and is shown anew when less than one lagFell-th of it is left.
const (
	lagAgain = 10 * time.Second
	lagFell  = 4
)

// conditionOrder is the order in which conditions stand in the status.
var conditionOrder = []string{
	v1alpha1.ConditionReady, v1alpha1.ConditionAvailable, v1alpha1.ConditionRedundant,
	v1alpha1.ConditionFailoverPossible, v1alpha1.ConditionConfigurationApplied, v1alpha1.ConditionReconciling, v1alpha1.ConditionStalled,
}

// observation is a condition before it has a time.
type observation struct {
	ok              bool
	reason, message string
}

// ready reports whether enough is known to write a status.
func (s *scope) ready() bool {
	fresh := s.svc.Status.ObservedGeneration != s.svc.Generation || s.svc.Status.Primary == nil
	told := slices.ContainsFunc(s.problems, func(p Problem) bool { return p.Blocking || p.Reason == v1alpha1.ReasonNameTaken }) // nobody may be there to be heard
	return fresh || told || s.heard()
}

// computeStatus is the status as of now.
func computeStatus(s *scope) v1alpha1.ReplicatedServiceStatus {
	out := *s.svc.Status.DeepCopy()
	out.ObservedGeneration = s.svc.Generation
	out.Members = memberStatuses(s)
	out.Primary = primaryStatus(s)
	out.Replicas = int32(len(s.pods))
	out.ReadyReplicas, out.MaxLagBytes = 0, nil
	for _, m := range out.Members {
		if m.State == v1alpha1.MemberServing || m.State == v1alpha1.MemberFollowing {
			out.ReadyReplicas++
		}
		if m.LagBytes != nil && *m.LagBytes > ptr.Deref(out.MaxLagBytes, -1) {
			out.MaxLagBytes = ptr.To(*m.LagBytes)
		}
	}
	out.Readiness = fmt.Sprintf("%d/%d", out.ReadyReplicas, s.count())
	out.Selector = metav1.FormatLabelSelector(&metav1.LabelSelector{MatchLabels: workload.Selector(s.svc.Name)})
	out.LastFailover = lastFailover(s)
	setConditions(s, &out)
	return out
}

func setConditions(s *scope, out *v1alpha1.ReplicatedServiceStatus) {
	seen := map[string]observation{
		v1alpha1.ConditionAvailable:            available(s),
		v1alpha1.ConditionRedundant:            redundant(s),
		v1alpha1.ConditionFailoverPossible:     failoverPossible(s),
		v1alpha1.ConditionReconciling:          reconciling(s),
		v1alpha1.ConditionStalled:              stalled(s),
		v1alpha1.ConditionConfigurationApplied: configurationApplied(s),
	}
	seen[v1alpha1.ConditionReady] = readiness(s, seen)
	for _, kind := range conditionOrder {
		o := seen[kind]
		status := metav1.ConditionFalse
		if o.ok {
			status = metav1.ConditionTrue
		}
		meta.SetStatusCondition(&out.Conditions, metav1.Condition{
			Type: kind, Status: status, Reason: o.reason, Message: o.message,
			ObservedGeneration: s.svc.Generation, LastTransitionTime: metav1.NewTime(s.now),
		})
	}
}

func memberStatuses(s *scope) []v1alpha1.MemberStatus {
	var out []v1alpha1.MemberStatus
	for _, name := range s.memberNames() {
		m := v1alpha1.MemberStatus{Name: name, Role: v1alpha1.RoleUnknown, State: v1alpha1.MemberUnreachable}
		pod := s.pods[name]
		if pod != nil {
			m.Node, m.Zone = pod.Spec.NodeName, s.zoneOf(pod)
		}
		if status := s.reports[name].Live(); status != nil {
			m.Role, m.State, m.Message = v1alpha1.MemberRole(status.Role), v1alpha1.MemberState(status.State), status.Message
			m.LagBytes, m.KeptAside = shownLag(s, status), keptAside(status)
		} else {
			m.Message, m.KeptAside = absence(pod), keptBefore(s, name)
		}
		m.KeptVolumes = keptVolumes(s, name)
		out = append(out, m)
	}
	return out
}

// absence says why nothing is known of a member, without numbers that change.
func absence(pod *corev1.Pod) string {
	switch {
	case pod == nil:
		return "its pod does not exist"
	case finished(pod):
		return "its pod has ended"
	case pod.Spec.NodeName == "":
		return "its pod waits for a node"
	case pod.DeletionTimestamp != nil:
		return "its pod is ending"
	}
	statuses := append(slices.Clone(pod.Status.InitContainerStatuses), pod.Status.ContainerStatuses...)
	for _, c := range statuses {
		if w := c.State.Waiting; w != nil && w.Reason != "" && w.Reason != "PodInitializing" {
			return "container " + c.Name + ": " + w.Reason
		}
	}
	return "its agent does not answer the operator"
}

// shownLag is coarse, and stays what it was while the member's state does: a lag that comes and goes with the load is no reason to
// write a status. One that is shown is looked at again until it is over, so that nobody reads of a lag that is long gone.
func shownLag(s *scope, status *wire.Status) *int64 {
	if status.LagBytes < 0 || status.Serving {
		return nil
	}
	lag := status.LagBytes
	if lag < lagGranularity {
		lag = 0
	}
	for _, old := range s.svc.Status.Members {
		if old.Name == status.Run.Member && string(old.State) == status.State && old.LagBytes != nil && lag > *old.LagBytes/lagFell {
			lag = *old.LagBytes
		}
	}
	if lag > 0 {
		s.lookIn(lagAgain)
	}
	return &lag
}

// primaryStatus names the member that serves; while none does, the last one stays, since its epoch must not be lost.
func primaryStatus(s *scope) *v1alpha1.PrimaryStatus {
	old := s.svc.Status.Primary
	serving := s.server()
	if serving == nil || (old != nil && failover.Epoch(old.Epoch) > serving.Epoch) {
		return old
	}
	if old != nil && old.Name == serving.Run.Member && failover.Epoch(old.Epoch) == serving.Epoch {
		return old
	}
	since := metav1.NewTime(s.now)
	return &v1alpha1.PrimaryStatus{Name: serving.Run.Member, Epoch: int64(serving.Epoch), Since: &since}
}

// lastFailover is the newest change of primary that a member reports, with the name of the object that records it.
func lastFailover(s *scope) *v1alpha1.LastFailover {
	last := s.svc.Status.LastFailover
	for _, report := range s.reports {
		status := report.Live()
		if status == nil {
			continue
		}
		for _, t := range status.Takeovers {
			if t.Epoch < 2 || (last != nil && last.Epoch > int64(t.Epoch)) {
				continue
			}
			at := metav1.Unix(0, t.WallNanos).Rfc3339Copy()
			last = &v1alpha1.LastFailover{From: t.From.Member, To: t.To.Member, Epoch: int64(t.Epoch), Time: &at}
		}
	}
	if last == nil {
		return nil
	}
	for _, fo := range s.failovers {
		if fo.Status.Epoch == last.Epoch {
			last = last.DeepCopy()
			last.Name = fo.Name
		}
	}
	return last
}

func available(s *scope) observation {
	serving := s.server()
	switch {
	case serving != nil && routed(s, s.slices, serving):
		return observation{true, v1alpha1.ReasonPrimaryServing, fmt.Sprintf(
			"%s serves epoch %d and Service %s leads to it", serving.Run.Member, serving.Epoch, s.svc.Name) + s.leaveNote()}
	case serving != nil:
		return observation{false, v1alpha1.ReasonFailingOver, fmt.Sprintf(
			"%s serves epoch %d, but Service %s does not lead to it yet", serving.Run.Member, serving.Epoch, s.svc.Name)}
	case s.register == nil || s.register.Epoch == 0:
		return observation{false, v1alpha1.ReasonBootstrapping, "no primary was named yet" + s.waitsFor()}
	}
	holder := s.register.Holder.Member
	if status := s.reports[holder].Live(); status != nil && status.Run == s.register.Holder {
		return observation{false, v1alpha1.ReasonFailingOver, fmt.Sprintf(
			"%s holds epoch %d and does not serve yet (%s)", holder, s.register.Epoch, status.State)}
	}
	message := fmt.Sprintf("%s holds epoch %d and cannot be reached", holder, s.register.Epoch)
	if mode := leftToPeople(s); mode != "" && s.register.Terms.Approved != s.register.Epoch {
		message += fmt.Sprintf("; nobody takes over in mode %s, which FailoverPossible tells how to allow once", s.register.Terms.Mode)
	} else {
		message += "; the members take over by themselves once they have proof or its right has run out"
	}
	return observation{false, v1alpha1.ReasonNoPrimary, message}
}

// leaveNote is about a primary that does not leave a node that is to be emptied.
func (s *scope) leaveNote() string {
	if s.stays == "" {
		return ""
	}
	return "; " + s.stays
}

func (s *scope) waitsFor() string {
	if len(s.waiting) == 0 {
		return ""
	}
	return "; waiting for " + strings.Join(s.waiting, ", and for ")
}

func redundant(s *scope) observation {
	if s.count() == 1 {
		return observation{true, v1alpha1.ReasonSingleReplica,
			"one member is declared, so there is no replica to lose and none to take over; set spec.replicas to 3 for that"}
	}
	serving := s.server()
	var short []string
	for _, name := range s.memberNames() {
		status := s.reports[name].Live()
		switch {
		case status == nil:
			short = append(short, name+" ("+absence(s.pods[name])+")")
		case serving != nil && status.Run == serving.Run:
		case status.State != string(v1alpha1.MemberFollowing):
			short = append(short, name+" ("+status.State+")")
		}
	}
	if len(short) == 0 && serving != nil {
		return observation{true, v1alpha1.ReasonHealthy, fmt.Sprintf("%d of %d replicas follow within the limit", s.count()-1, s.count()-1)}
	}
	if len(short) == 0 {
		return observation{false, v1alpha1.ReasonReplicasMissing, "no primary serves, so nobody follows one"}
	}
	return observation{false, v1alpha1.ReasonReplicasMissing, "not following within the limit: " + strings.Join(short, ", ")}
}

func failoverPossible(s *scope) observation {
	if why := coolingDown(s); why != "" {
		return observation{false, v1alpha1.ReasonCooldown, why}
	}
	return candidatesReady(s)
}

// candidatesReady reports whether somebody could take over, be it that somebody must ask for it.
func candidatesReady(s *scope) observation {
	if s.count() == 1 {
		return observation{false, v1alpha1.ReasonSingleReplica, "one member is declared, so nobody can take over"}
	}
	if s.paused() {
		return observation{false, v1alpha1.ReasonPaused, "spec.state is Paused: nobody takes over; set it to Active"}
	}
	serving := s.server()
	var able, refused []string
	for _, name := range s.memberNames() {
		status := s.reports[name].Live()
		switch {
		case status == nil:
			refused = append(refused, name+": "+absence(s.pods[name]))
		case serving != nil && status.Run == serving.Run:
		case status.Eligible:
			able = append(able, name)
		default:
			refused = append(refused, strings.TrimSuffix(name+": "+status.Reason+": "+status.Explanation, ": "))
		}
	}
	if len(able) > 0 && !mayAgree(s) {
		return observation{false, v1alpha1.ReasonNoCandidate, fmt.Sprintf("%s could take over if a majority of the members agreed, and too few answer the operator: %s",
			strings.Join(able, ", "), strings.Join(refused, "; "))}
	}
	if len(able) > 0 {
		message := strings.Join(able, ", ") + " could take over now"
		if mode := leftToPeople(s); mode != "" {
			message += ", " + mode
		}
		return observation{true, v1alpha1.ReasonCandidatesReady, message}
	}
	return observation{false, v1alpha1.ReasonNoCandidate, strings.Join(refused, "; ")}
}

// mayAgree reports whether a majority of the members answers, or is known not to vote any more.
func mayAgree(s *scope) bool {
	return s.register == nil || len(s.register.Terms.Members) == 0 || s.register.Terms.Majority(func(member string) bool {
		return member == failover.APIServer || s.reports[member].Live() != nil || s.gone[member] != ""
	})
}

// leftToPeople says how a person decides where the mode leaves it to them; empty: the members decide.
func leftToPeople(s *scope) string {
	l := s.register
	if l == nil || l.Terms.Mode == failover.ModeAutomatic {
		return ""
	}
	if l.Epoch > 0 && l.Terms.Approved == l.Epoch {
		return fmt.Sprintf("which was approved for epoch %d: the policy's mode is %s, and for the next epoch a person decides again", l.Epoch, l.Terms.Mode)
	}
	return fmt.Sprintf("but the policy's mode is %s: let it happen, once, with kubectl annotate rsvc %s -n %s %s=%d --overwrite, or create a Failover",
		l.Terms.Mode, s.svc.Name, s.svc.Namespace, keys.AnnotationApproved, l.Epoch)
}

func stalled(s *scope) observation {
	if len(s.problems) == 0 {
		return observation{false, v1alpha1.ReasonNotStalled, "nothing needs a person"}
	}
	messages := make([]string, 0, len(s.problems))
	for _, p := range s.problems {
		messages = append(messages, p.Message)
	}
	return observation{true, s.problems[0].Reason, strings.Join(messages, "; ")}
}

func reconciling(s *scope) observation {
	if s.paused() {
		return observation{false, v1alpha1.ReasonPaused, "spec.state is Paused: nothing is changed; set it to Active"}
	}
	var todo []string
	for _, name := range s.memberNames() {
		if pod := s.pods[name]; pod == nil || pod.DeletionTimestamp != nil || !podReady(pod) {
			todo = append(todo, name)
		}
	}
	switch {
	case s.rolling != "": // it says too who is waited for
		return observation{true, v1alpha1.ReasonProgressing, s.rolling}
	case len(todo) > 0 && s.mayBuild():
		message := "pods not ready yet: " + strings.Join(todo, ", ")
		if len(s.waiting) > 0 {
			message += "; waiting for " + strings.Join(s.waiting, ", and for ")
		}
		return observation{true, v1alpha1.ReasonProgressing, message}
	case len(s.waiting) > 0:
		return observation{true, v1alpha1.ReasonProgressing, "waiting for " + strings.Join(s.waiting, ", and for ")}
	}
	return observation{false, v1alpha1.ReasonReconciled, "the spec was carried out"}
}

func podReady(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

func readiness(s *scope, seen map[string]observation) observation {
	if o := seen[v1alpha1.ConditionStalled]; o.ok {
		return observation{false, o.reason, o.message}
	}
	if s.paused() {
		return observation{false, v1alpha1.ReasonPaused, seen[v1alpha1.ConditionReconciling].message}
	}
	if o := seen[v1alpha1.ConditionAvailable]; !o.ok {
		return o
	}
	if o := seen[v1alpha1.ConditionReconciling]; o.ok {
		return observation{false, o.reason, o.message}
	}
	if o := seen[v1alpha1.ConditionRedundant]; !o.ok {
		return o
	}
	return observation{true, v1alpha1.ReasonHealthy, seen[v1alpha1.ConditionAvailable].message}
}
