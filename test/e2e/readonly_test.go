//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"

	"understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/test/internal/kube"
	"understudy.dev/understudy/test/internal/load"
	"understudy.dev/understudy/test/internal/rounds"
)

// testReadOnly: the file system of the primary's volume meets an error and goes read-only. Another member takes over without losing a write; the old primary
// gets a new pod, and a fresh volume when that finds the old one as it was.
func testReadOnly(t *testing.T) {
	needHost(t)
	t.Parallel()
	for engine, f := range map[string]func(*testing.T, string) fixture{
		"Redis": func(t *testing.T, namespace string) fixture {
			return redis(t, namespace, func(obj *v1alpha1.ReplicatedService) {
				obj.Spec.Storage = &v1alpha1.StorageSpec{Size: resource.MustParse("64Mi"), StorageClassName: ptr.To("disk"), Retention: v1alpha1.DeleteVolumes}
			})
		},
		"PostgreSQL": func(t *testing.T, namespace string) fixture { return postgresql(t, namespace, nil) },
	} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			f(t, space(t, "readonly-"+strings.ToLower(engine))).ready(t).readOnly(t)
		})
	}
}

func (f fixture) readOnly(t *testing.T) {
	s := f.scene(t)
	member := s.primary.Member
	volume := volumeOf(t, f.namespace, member)
	c, _, err := f.Clients.NotOn(t.Context(), s.primary.Node)
	must(t, err)
	defer c.Close()
	config, err := f.LoadConfig(t.Context())
	must(t, err)
	m, err := rounds.Measure(t.Context(), c, fmt.Sprintf("readonly-%d", time.Now().UnixNano()), rounds.Target{
		Config: config, Within: time.Minute,
		Inject: func(ctx context.Context) error { return s.disk(ctx, member, "readonly") },
		Over: func(ctx context.Context) error {
			return kube.UntilEvery(ctx, 30*time.Second, 100*time.Millisecond, "another primary", func(ctx context.Context) (bool, string, error) {
				now, err := f.Service.Primary(ctx)
				return now.Epoch > s.primary.Epoch && now.Member != member, fmt.Sprintf("%+v", now), err
			})
		},
	})
	must(t, err)
	t.Logf("the volume of primary %s refuses writes: outage %.1f ms, %d writes acknowledged, %d lost, %d unknown", member,
		float64(m.Longest().Microseconds)/1000, m.Acknowledged, m.Verification.Lost, m.Unknown)
	if m.Verification.Lost > 0 {
		t.Errorf("%d acknowledged writes were lost", m.Verification.Lost)
	}
	s.madeAnew(t, member, time.Minute)
	s.beginsAnew(t, member, volume)
	if config.Engine == load.PostgreSQL {
		s.givesBack(t, volume)
		return
	}
	// A primary without a quorum acknowledged what may be nowhere else: the old volume stays until a person deletes it.
	obj, err := f.Service.Object(t.Context())
	must(t, err)
	if !slices.ContainsFunc(obj.Status.Members, func(m v1alpha1.MemberStatus) bool { return m.Name == member && slices.Contains(m.KeptVolumes, volume) }) {
		t.Errorf("the status does not name the old volume %s: %+v", volume, obj.Status.Members)
	}
}
