package replicatedservice

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/wire"
)

func single(s *scope) { s.effective.Spec.Replicas = ptr.To[int32](1) }

func unfit(name string) func(*scope) {
	return func(s *scope) { s.reports[name].Status.Eligible = false }
}

func cordon(names ...string) func(*scope) {
	return func(s *scope) {
		for _, name := range names {
			s.nodes[name].Spec.Unschedulable = true
		}
	}
}

// leaving is a healthy service with each member on a node of its own; cache-0 serves on node-0, which is cordoned.
func leaving(change ...func(*scope)) *scope {
	return playing(4, append([]func(*scope){func(s *scope) {
		s.nodes = map[string]*corev1.Node{}
		for _, name := range s.memberNames() {
			node := strings.Replace(name, "cache", "node", 1)
			s.pods[name].Spec.NodeName = node
			s.nodes[node] = &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}}
		}
		cordon("node-0")(s)
		s.memory.parting = podSeen{noon.Add(-cordonSettle), s.pods["cache-0"].UID}
	}}, change...)...)
}

func TestNextLeave(t *testing.T) {
	refused := func(number string, ago time.Duration) func(*scope) {
		return asked("cache-drain-4-"+number, ago, v1alpha1.ConditionStalled)
	}
	say2 := func(change func(*wire.Status)) func(*scope) {
		return func(s *scope) { change(s.reports["cache-2"].Status) }
	}
	for name, c := range map[string]struct {
		s      *scope
		target string // empty: nobody is asked
		stays  string // what people read
	}{
		"the node is cordoned":             {leaving(), "cache-1", ""},
		"a moment ago":                     {leaving(func(s *scope) { s.memory.parting = podSeen{} }), "", ""},
		"a while ago":                      {leaving(func(s *scope) { s.memory.parting.at = noon.Add(time.Millisecond - cordonSettle) }), "", ""},
		"another primary's, long ago":      {leaving(func(s *scope) { s.memory.parting.pod = "earlier" }), "", ""},
		"a moment ago, another's too":      {leaving(func(s *scope) { s.memory.parting = podSeen{} }, cordon("node-1")), "cache-2", ""},
		"a moment ago, an unfit one's too": {leaving(func(s *scope) { s.memory.parting = podSeen{} }, cordon("node-1"), unfit("cache-1")), "", ""},
		"it is not":                        {leaving(func(s *scope) { s.nodes["node-0"].Spec.Unschedulable = false }), "", ""},
		"only a replica's is":              {leaving(func(s *scope) { s.nodes["node-0"].Spec.Unschedulable = false }, cordon("node-1")), "", ""},
		"the first candidate's is too":     {leaving(cordon("node-1")), "cache-2", ""},
		"all are":                          {leaving(cordon("node-1", "node-2")), "", "cache-1 is no better off, since node node-1 is cordoned; cache-2 is no better off"},
		"a candidate's node is gone":       {leaving(cordon("node-1"), func(s *scope) { delete(s.nodes, "node-2") }), "", "node node-2, which is not there any more"},
		"the primary's node is gone":       {leaving(func(s *scope) { delete(s.nodes, "node-0") }), "", ""},
		"a guard refuses one":              {leaving(unfit("cache-1")), "cache-2", ""},
		"guards refuse all":                {leaving(unfit("cache-1"), unfit("cache-2")), "", "cache-1 cannot take over; cache-2 cannot take over"},
		"a candidate is ending":            {leaving(func(s *scope) { s.pods["cache-1"].DeletionTimestamp = &metav1.Time{Time: noon} }), "cache-2", ""},
		"paused":                           {leaving(func(s *scope) { s.svc.Spec.State = v1alpha1.StatePaused }), "", "spec.state is Paused"},
		"Manual":                           {leaving(mode(failover.ModeManual)), "", "mode is Manual"},
		"DryRun":                           {leaving(mode(failover.ModeDryRun)), "", "mode is DryRun"},
		"not all were heard":               {leaving(func(s *scope) { delete(s.reports, "cache-2") }), "", ""},
		"not redundant":                    {leaving(say2(func(st *wire.Status) { st.State = "CatchingUp" })), "", ""},
		"somebody changes it":              {leaving(asked("by-hand", time.Second, "")), "", ""},
		"somebody changed it":              {leaving(asked("by-hand", time.Second, v1alpha1.ConditionReady)), "cache-1", ""},
		"asked already":                    {leaving(asked("cache-drain-4-1", time.Second, "")), "", ""},
		"nobody serves":                    {leaving(func(s *scope) { s.reports["cache-0"].Status.Serving = false }), "", ""},
		"the Lease names another":          {leaving(func(s *scope) { s.register.Holder = runOf("cache-1") }), "", ""},
		"it is not routed yet":             {leaving(func(s *scope) { s.slices[0].Endpoints = nil }), "", ""},
		"its pod is ending":                {leaving(func(s *scope) { s.pods["cache-0"].DeletionTimestamp = &metav1.Time{Time: noon} }), "", ""},
		"its pod is another already":       {leaving(func(s *scope) { s.pods["cache-0"].UID = "another" }), "", ""},
		"one member":                       {leaving(single), "", ""},
		"refused a moment ago":             {leaving(refused("1", time.Second)), "", "asked again to hand over in a while: nobody could take over"},
		"refused a while ago":              {leaving(refused("1", 31*time.Second)), "cache-1", ""},
		"refused twice":                    {leaving(refused("2", 31*time.Second), refused("1", time.Hour)), "", "asked again"},
		"refused twice, longer ago":        {leaving(refused("2", 61*time.Second), refused("1", time.Hour)), "cache-1", ""},
		"refused often, the longest wait":  {leaving(refused("40", time.Hour)), "cache-1", ""},
		"refused in an epoch before":       {leaving(asked("cache-drain-3-1", time.Second, v1alpha1.ConditionStalled)), "cache-1", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := nextLeave(c.s)
			if got.ask != (c.target != "") || (got.ask && got.target != c.target) || (got.stays == "") != (c.stays == "") || !strings.Contains(got.stays, c.stays) {
				t.Errorf("%+v, want target %q, and people read %q", got, c.target, c.stays)
			}
		})
	}
}

func TestParting(t *testing.T) {
	taint := func(key string, effect corev1.TaintEffect) *corev1.Node {
		return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}, Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: key, Effect: effect}}}}
	}
	tolerates := func(seconds *int64) *corev1.Pod {
		return &corev1.Pod{Spec: corev1.PodSpec{Tolerations: []corev1.Toleration{{Key: "maintenance", Operator: corev1.TolerationOpExists, TolerationSeconds: seconds}}}}
	}
	for name, c := range map[string]struct {
		node *corev1.Node
		pod  *corev1.Pod
		want string
	}{
		"nothing is known":              {nil, &corev1.Pod{}, ""},
		"open":                          {&corev1.Node{}, &corev1.Pod{}, ""},
		"cordoned":                      {&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}, Spec: corev1.NodeSpec{Unschedulable: true}}, &corev1.Pod{}, "node n is cordoned"},
		"cordoned, by its taint":        {taint("node.kubernetes.io/unschedulable", corev1.TaintEffectNoSchedule), &corev1.Pod{}, "unschedulable:NoSchedule"},
		"the cluster autoscaler":        {taint("ToBeDeletedByClusterAutoscaler", corev1.TaintEffectNoSchedule), &corev1.Pod{}, "ToBeDeleted"},
		"Karpenter":                     {taint("karpenter.sh/disrupted", corev1.TaintEffectNoSchedule), &corev1.Pod{}, "disrupted"},
		"somebody empties it":           {taint("maintenance", corev1.TaintEffectNoExecute), &corev1.Pod{}, "maintenance:NoExecute"},
		"the pod may stay":              {taint("maintenance", corev1.TaintEffectNoExecute), tolerates(nil), ""},
		"the pod may stay for a while":  {taint("maintenance", corev1.TaintEffectNoExecute), tolerates(ptr.To[int64](60)), "maintenance"},
		"closed to others":              {taint("dedicated", corev1.TaintEffectNoSchedule), &corev1.Pod{}, ""},
		"silent":                        {taint(corev1.TaintNodeUnreachable, corev1.TaintEffectNoExecute), &corev1.Pod{}, ""},
		"a candidate of the autoscaler": {taint("DeletionCandidateOfClusterAutoscaler", corev1.TaintEffectPreferNoSchedule), &corev1.Pod{}, ""},
	} {
		if got := parting(c.node, c.pod); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// TestBareNode: a heartbeat changes nothing that is kept.
func TestBareNode(t *testing.T) {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", Annotations: map[string]string{"a": "b"}}, Spec: corev1.NodeSpec{Unschedulable: true, PodCIDR: "10.0.0.0/24"}}
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, LastHeartbeatTime: metav1.NewTime(noon)}}
	node.Labels = map[string]string{corev1.LabelTopologyZone: "zone-1", "other": "one"}
	out, err := BareNode(node)
	bare, ok := out.(*corev1.Node)
	if err != nil || !ok || bare.Name != "n" || len(bare.Labels) != 1 || bare.Labels[corev1.LabelTopologyZone] != "zone-1" || !bare.Spec.Unschedulable || bare.Spec.PodCIDR != "" || len(bare.Annotations) > 0 || len(bare.Status.Conditions) > 0 {
		t.Errorf("kept %+v (%v)", out, err)
	}
}

// TestHeartbeatsAreNoNews: what the cache keeps of a node differs only when somebody means it.
func TestHeartbeatsAreNoNews(t *testing.T) {
	kept := func(version string, change func(*corev1.Node)) client.Object {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", ResourceVersion: version}}
		change(node)
		out, err := BareNode(node)
		if err != nil {
			t.Fatal(err)
		}
		return out.(*corev1.Node)
	}
	before := kept("1", func(*corev1.Node) {})
	beat := kept("2", func(n *corev1.Node) {
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, LastHeartbeatTime: metav1.NewTime(noon)}}
	})
	if differs.Update(event.UpdateEvent{ObjectOld: before, ObjectNew: beat}) {
		t.Error("a heartbeat is looked at")
	}
	if !differs.Update(event.UpdateEvent{ObjectOld: before, ObjectNew: kept("3", func(n *corev1.Node) { n.Spec.Unschedulable = true })}) {
		t.Error("a cordon is not looked at")
	}
}

// TestStaysIsTold: Available tells of a primary that cannot leave, and stays True.
func TestStaysIsTold(t *testing.T) {
	s := leaving(cordon("node-1", "node-2"))
	r := &Reconciler{}
	if err := r.leaveNode(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if o := available(s); !o.ok || !strings.Contains(o.message, "node node-0 is cordoned, and the primary stays: nobody to hand over to") {
		t.Errorf("people read %+v", o)
	}
}
