//go:build e2e

package e2e

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/api/v1alpha1/keys"
	"understudy.dev/understudy/internal/certs"
	naming "understudy.dev/understudy/internal/names"
	"understudy.dev/understudy/test/internal/kube"
)

// testClaims: what belongs to one service cannot be made another's, by a label or by a name.
func testClaims(t *testing.T) {
	t.Parallel()
	namespace := space(t, "claims")
	f := redis(t, namespace, nil).ready(t)
	f.mark(t)
	before, err := f.Service.Primary(t.Context())
	must(t, err)
	other := redis(t, namespace, func(obj *v1alpha1.ReplicatedService) {
		obj.Name, obj.Spec.Replicas = "other", ptr.To[int32](1)
	})
	other.condition(t, v1alpha1.ConditionAvailable, v1alpha1.ReasonPrimaryServing)
	s := f.scene(t)
	claimed := s.replicas[0]
	label := func(service string) {
		pod := s.pods[claimed]
		must(t, cluster.Get(t.Context(), client.ObjectKeyFromObject(&pod), &pod))
		patch := client.MergeFrom(pod.DeepCopy())
		pod.Labels[keys.LabelService] = service
		must(t, cluster.Patch(t.Context(), &pod, patch))
	}
	label(other.Service.Name)
	names(t, f.condition(t, v1alpha1.ConditionStalled, v1alpha1.ReasonPodRefused), claimed)
	f.condition(t, v1alpha1.ConditionAvailable, v1alpha1.ReasonPrimaryServing)
	obj, err := other.Service.Object(t.Context())
	must(t, err)
	if slices.ContainsFunc(obj.Status.Members, func(m v1alpha1.MemberStatus) bool { return m.Name == claimed }) {
		t.Errorf("service %s counts %s, which is a member of %s, as its own", other.Service.Name, claimed, f.Service.Name)
	}
	label(f.Service.Name)
	must(t, f.WaitHealthy(t.Context(), 3*time.Minute))
	t.Run("Name", func(t *testing.T) { nameTaken(t, f) })
	t.Run("Certificate", func(t *testing.T) { expiredCertificate(t, f) })
	must(t, f.WaitHealthy(t.Context(), 3*time.Minute))
	f.marked(t)
	if now, err := f.Service.Primary(t.Context()); err != nil || now.Epoch != before.Epoch {
		t.Errorf("the primary changed from %s in epoch %d to %s in epoch %d: %v", before.Member, before.Epoch, now.Member, now.Epoch, err)
	}
}

// nameTaken: a service whose Service would be called as one of another service does not take it.
func nameTaken(t *testing.T, f fixture) {
	taken := naming.MembersService(f.Service.Name)
	second := redis(t, f.namespace, func(obj *v1alpha1.ReplicatedService) {
		obj.Name, obj.Spec.Replicas = taken, ptr.To[int32](1)
	})
	names(t, second.condition(t, v1alpha1.ConditionStalled, v1alpha1.ReasonNameTaken), taken)
	obj, err := second.Service.Object(t.Context())
	must(t, err)
	must(t, cluster.Delete(t.Context(), obj))
}

// expiredCertificate: an agent refuses a certificate of its own authority that has expired, and one that came into the Secret is
// replaced before it does harm.
func expiredCertificate(t *testing.T, f fixture) {
	needHost(t)
	var authority corev1.Secret
	must(t, cluster.Get(t.Context(), client.ObjectKey{Namespace: f.namespace, Name: naming.CASecret(f.Service.Name)}, &authority))
	pair := certs.Pair{Cert: authority.Data[certs.KeyAuthorityCert], Key: authority.Data[certs.KeyAuthorityKey]}
	s := f.scene(t)
	victim := s.replicas[1]
	leaf := certs.Leaf{
		Name: victim, Life: certs.LeafLife, DNSNames: []string{victim, naming.MemberHost(victim, f.Service.Name, f.namespace)},
	}
	for _, c := range []struct {
		name    string
		made    time.Time
		refused bool
	}{{"expired", time.Now().Add(-certs.LeafLife - time.Hour), true}, {"valid", time.Now(), false}} {
		issued, err := certs.Issue(rand.Reader, c.made, pair, leaf)
		must(t, err)
		if answers := f.accepts(t, s.ip(s.primary.Member), issued); answers == c.refused {
			t.Errorf("the agent of %s goes on with who shows a certificate that is %s: %t", s.primary.Member, c.name, answers)
		}
	}
	expired, err := certs.Issue(rand.Reader, time.Now().Add(-certs.LeafLife-time.Hour), pair, leaf)
	must(t, err)
	key := client.ObjectKey{Namespace: f.namespace, Name: naming.CertsSecret(f.Service.Name)}
	var secret corev1.Secret
	must(t, cluster.Get(t.Context(), key, &secret))
	patch := client.MergeFrom(secret.DeepCopy())
	secret.Data[victim+".crt"], secret.Data[victim+".key"] = expired.Cert, expired.Key
	must(t, cluster.Patch(t.Context(), &secret, patch))
	must(t, kube.Until(t.Context(), time.Minute, "the expired certificate of "+victim+" to be replaced", func(ctx context.Context) (bool, string, error) {
		if err := cluster.Get(ctx, key, &secret); err != nil {
			return false, "", err
		}
		cert, err := certs.Parse(secret.Data[victim+".crt"])
		return err == nil && time.Now().Before(cert.NotAfter), fmt.Sprintf("valid until %s", cert.NotAfter), err
	}))
}

// accepts reports whether an agent keeps a connection on which that certificate is shown. In TLS 1.3 the client learns of a
// refusal with its first read only; an agent that goes on says something, or lets that read time out.
func (f fixture) accepts(t *testing.T, ip string, pair certs.Pair) bool {
	t.Helper()
	cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
	must(t, err)
	dialer := net.Dialer{Timeout: 2 * time.Second}
	config := &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{cert}} //nolint:gosec // whom it talks to is not the question
	conn, err := tls.DialWithDialer(&dialer, "tcp", net.JoinHostPort(ip, strconv.Itoa(agentPort)), config)
	if err != nil {
		return false
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	_, err = conn.Read(make([]byte, 1))
	var timeout net.Error
	return err == nil || (errors.As(err, &timeout) && timeout.Timeout())
}
