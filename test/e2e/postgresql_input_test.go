//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"understudy.dev/understudy/api/v1alpha1"
	naming "understudy.dev/understudy/internal/names"
	"understudy.dev/understudy/test/internal/kube"
)

// badDatabaseInput: what is wrong is told with the remedy, and the service goes on. A full disk is among the disturbances.
func (f fixture) badDatabaseInput(t *testing.T) {
	must(t, f.WaitHealthy(t.Context(), 3*time.Minute))
	pods, err := f.Service.Pods(t.Context())
	must(t, err)
	primary, err := f.Service.Primary(t.Context())
	must(t, err)
	engine := func(change func(*v1alpha1.PostgreSQLSpec)) {
		f.patch(t, func(s *v1alpha1.ReplicatedServiceSpec) { change(s.Engine.PostgreSQL) })
	}
	t.Run("Parameter", func(t *testing.T) {
		engine(func(p *v1alpha1.PostgreSQLSpec) {
			p.Parameters = map[string]v1alpha1.ParameterValue{"work_mem": "much"}
		})
		names(t, f.refused(t), "work_mem", "much")
		f.podsUnchanged(t, pods)
		engine(func(p *v1alpha1.PostgreSQLSpec) { p.Parameters = nil })
	})
	t.Run("HBA", func(t *testing.T) {
		engine(func(p *v1alpha1.PostgreSQLSpec) {
			p.HostBasedAuthentication = []string{"host all all 300.0.0.1/32 scram-sha-256"}
		})
		names(t, f.refused(t), "300.0.0.1")
		f.podsUnchanged(t, pods)
		engine(func(p *v1alpha1.PostgreSQLSpec) { p.HostBasedAuthentication = nil })
	})
	t.Run("MissingSecret", func(t *testing.T) {
		engine(func(p *v1alpha1.PostgreSQLSpec) {
			p.SuperuserPasswordSecretRef = &v1alpha1.SecretKeyReference{Name: "absent", Key: "password"}
		})
		names(t, f.condition(t, v1alpha1.ConditionStalled, v1alpha1.ReasonSecretNotFound), "superuserPasswordSecretRef", "absent", "create it")
		f.podsUnchanged(t, pods)
		engine(func(p *v1alpha1.PostgreSQLSpec) { p.SuperuserPasswordSecretRef = nil })
	})
	t.Run("ImageWithoutPostgreSQL", func(t *testing.T) {
		f.patch(t, func(s *v1alpha1.ReplicatedServiceSpec) { s.Template.Image = image })
		names(t, f.condition(t, v1alpha1.ConditionStalled, v1alpha1.ReasonEngineNotStarted), "the image has no program postgres", "spec.template.image")
		f.condition(t, v1alpha1.ConditionAvailable, v1alpha1.ReasonPrimaryServing)
		f.othersUnchanged(t, pods, primary)
		f.patch(t, func(s *v1alpha1.ReplicatedServiceSpec) { s.Template.Image = postgresImage })
		must(t, f.WaitHealthy(t.Context(), 3*time.Minute))
		f.othersUnchanged(t, pods, primary)
	})
	t.Run("WrongMajorVersion", func(t *testing.T) { f.wrongVersion(t, primary) })
	if now, err := f.Service.Primary(t.Context()); err != nil || now.Epoch != primary.Epoch {
		t.Errorf("the primary changed from %s in epoch %d to %s in epoch %d: %v", primary.Member, primary.Epoch, now.Member, now.Epoch, err)
	}
}

// wrongVersion lets a replica's volume say that its data is of another version.
func (f fixture) wrongVersion(t *testing.T, primary kube.Primary) {
	needHost(t)
	replica := f.scene(t).replicas[0]
	mark := func(version string) {
		_, err := cluster.Exec(t.Context(), f.namespace, replica, naming.EngineContainer, "sh", "-c", "echo "+version+" > /data/data/PG_VERSION")
		must(t, err)
	}
	mark("14")
	must(t, f.Injector.KillEngine(t.Context(), f.namespace, replica))
	names(t, f.condition(t, v1alpha1.ConditionStalled, v1alpha1.ReasonEngineNotStarted), replica, "version 14", "image of version 14")
	f.condition(t, v1alpha1.ConditionAvailable, v1alpha1.ReasonPrimaryServing)
	mark("15")
	must(t, f.WaitHealthy(t.Context(), 3*time.Minute))
}

// refused waits until the members refuse their configuration, and returns why.
func (f fixture) refused(t *testing.T) string {
	t.Helper()
	var message string
	must(t, kube.UntilEvery(t.Context(), 3*time.Minute, 2*time.Second, "the members to refuse their configuration", func(ctx context.Context) (bool, string, error) {
		obj, err := f.Service.Object(ctx)
		if err != nil {
			return false, "", err
		}
		c := meta.FindStatusCondition(obj.Status.Conditions, v1alpha1.ConditionConfigurationApplied)
		if c == nil {
			return false, "no such condition", nil
		}
		message = c.Message
		done := c.Status == metav1.ConditionFalse && c.Reason == v1alpha1.ReasonConfigurationRefused && c.ObservedGeneration == obj.Generation
		if !done {
			err = f.nudge(ctx)
		}
		return done, fmt.Sprintf("%s %s: %s", c.Status, c.Reason, c.Message), err
	}))
	return message
}
