package replicatedservice

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/internal/wire"
	"understudy.dev/understudy/internal/workload"
)

// database is a playing service of PostgreSQL whose members run with its parameters.
func database(change ...func(*scope)) *scope {
	return playing(3, append([]func(*scope){func(s *scope) {
		s.svc.Spec.Engine = v1alpha1.EngineSpec{PostgreSQL: &v1alpha1.PostgreSQLSpec{
			Parameters: map[string]v1alpha1.ParameterValue{"work_mem": "8MB"},
		}}
		want, _ := workload.Reloadable(s.svc)
		for _, name := range s.memberNames() {
			retune(s, name, func(st *wire.Status) { st.Configured = want.Digest() })
		}
	}}, change...)...)
}

// retune changes what a member says of its configuration.
func retune(s *scope, name string, change func(*wire.Status)) {
	status := *s.reports[name].Status
	say(s, name, func(st *wire.Status) { *st = status; change(st) })
}

func TestConfigurationApplied(t *testing.T) {
	refuse := func(why string) func(*wire.Status) {
		return func(st *wire.Status) { st.Refused = why }
	}
	for name, c := range map[string]struct {
		s      *scope
		status metav1.ConditionStatus
		reason string
		words  []string
	}{
		"of Redis": {playing(3), metav1.ConditionTrue, v1alpha1.ReasonReadAtStart, nil},
		"all run":  {database(), metav1.ConditionTrue, v1alpha1.ReasonConfigurationInForce, nil},
		"one has not read it": {database(func(s *scope) {
			retune(s, "cache-1", func(st *wire.Status) { st.Configured = "older" })
		}), metav1.ConditionFalse, v1alpha1.ReasonApplying, []string{": cache-1"}},
		"one is not there": {database(func(s *scope) { silence(s, "cache-2") }), metav1.ConditionFalse, v1alpha1.ReasonMembersUnreachable,
			[]string{"cache-2 (its agent does not answer"}},
		"two refuse for one reason": {database(func(s *scope) {
			retune(s, "cache-0", refuse("no such parameter: correct it"))
			retune(s, "cache-2", refuse("no such parameter: correct it"))
			retune(s, "cache-1", func(st *wire.Status) { st.PendingRestart = true })
		}), metav1.ConditionFalse, v1alpha1.ReasonConfigurationRefused, []string{"cache-0, cache-2: no such parameter: correct it", "goes on running"}},
		"what was refused is not wanted any more": {database(func(s *scope) {
			retune(s, "cache-0", func(st *wire.Status) { st.Configured, st.Refused = "older", "no such parameter" })
		}), metav1.ConditionFalse, v1alpha1.ReasonApplying, []string{"cache-0"}},
		"a restart is due": {database(func(s *scope) {
			retune(s, "cache-1", func(st *wire.Status) { st.PendingRestart, st.RestartFor = true, []string{"max_connections"} })
		}), metav1.ConditionFalse, v1alpha1.ReasonRestartRequired, []string{"cache-1 (max_connections)"}},
		"paused": {database(func(s *scope) {
			s.svc.Spec.State = v1alpha1.StatePaused
			retune(s, "cache-1", func(st *wire.Status) { st.Configured = "older" })
		}), metav1.ConditionFalse, v1alpha1.ReasonPaused, []string{"spec.state"}},
	} {
		t.Run(name, func(t *testing.T) {
			status := computeStatus(c.s)
			have := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionConfigurationApplied)
			if have == nil || have.Status != c.status || have.Reason != c.reason {
				t.Fatalf("want %s, %s, have %+v", c.status, c.reason, have)
			}
			for _, w := range c.words {
				if !strings.Contains(have.Message, w) {
					t.Errorf("no %q in %q", w, have.Message)
				}
			}
			silent := c.s.reports["cache-2"].Live() == nil
			if ready := meta.IsStatusConditionTrue(status.Conditions, v1alpha1.ConditionReady); !ready && !silent && !c.s.paused() {
				t.Error("parameters made a service that serves not ready")
			}
		})
	}
}

func TestConfigurationTales(t *testing.T) {
	s := database()
	told := func(change func(*wire.Status)) (reasons string) {
		s.svc.Status = computeStatus(s)
		retune(s, "cache-1", change)
		for _, e := range eventsOf(s.svc.Status, computeStatus(s)) {
			reasons += e.kind + " " + e.reason + " "
		}
		return reasons
	}
	good := s.reports["cache-1"].Status.Configured
	for _, step := range []struct {
		change func(*wire.Status)
		want   string
	}{
		{func(st *wire.Status) { st.Configured = "older" }, ""},
		{func(st *wire.Status) { st.Configured, st.Refused = good, "bad" }, "Warning ConfigurationRefused "},
		{func(*wire.Status) {}, ""},
		{func(st *wire.Status) { st.Refused = "worse" }, "Warning ConfigurationRefused "},
		{func(st *wire.Status) { st.Refused, st.PendingRestart = "", true }, "Normal RestartRequired "},
		{func(st *wire.Status) { st.PendingRestart = false }, "Normal ConfigurationInForce "},
	} {
		if got := told(step.change); got != step.want {
			t.Errorf("%q was told, want %q", got, step.want)
		}
	}
}
