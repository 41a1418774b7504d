//go:build e2e

package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/test/internal/kube"
	"understudy.dev/understudy/test/internal/rounds"
)

// testBadInput: wrong fields on a service that runs are told, and nothing that ran stops. The refusals of the API server
// itself are tested in controllers/.
func testBadInput(t *testing.T) {
	t.Parallel()
	f := redis(t, space(t, "input"), nil).ready(t)
	f.mark(t)
	pods, err := f.Service.Pods(t.Context())
	must(t, err)
	primary, err := f.Service.Primary(t.Context())
	must(t, err)

	t.Run("UnknownPolicy", func(t *testing.T) {
		f.patch(t, func(s *v1alpha1.ReplicatedServiceSpec) {
			s.FailoverPolicyRef = &v1alpha1.LocalReference{Name: "nowhere"}
		})
		names(t, f.condition(t, v1alpha1.ConditionStalled, v1alpha1.ReasonPolicyNotFound), "failoverPolicyRef", "nowhere")
		f.podsUnchanged(t, pods)
		f.patch(t, func(s *v1alpha1.ReplicatedServiceSpec) { s.FailoverPolicyRef = nil })
	})
	t.Run("SecretWithoutKey", func(t *testing.T) {
		secret := &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: "mine"}, StringData: map[string]string{"other": "x"},
		}
		must(t, cluster.Create(t.Context(), secret))
		f.patch(t, func(s *v1alpha1.ReplicatedServiceSpec) {
			s.Engine.Redis.PasswordSecretRef = &v1alpha1.SecretKeyReference{Name: "mine", Key: "password"}
		})
		names(t, f.condition(t, v1alpha1.ConditionStalled, v1alpha1.ReasonSecretKeyMissing), "passwordSecretRef", "mine", "password")
		f.podsUnchanged(t, pods)
		f.patch(t, func(s *v1alpha1.ReplicatedServiceSpec) { s.Engine.Redis.PasswordSecretRef = nil })
	})
	t.Run("HostNetwork", func(t *testing.T) {
		out, err := kubectl(t, hostNetwork, "apply", "-n", f.namespace, "-f", "-")
		if err == nil || !strings.Contains(out, "spec.template.hostNetwork") {
			t.Errorf("hostNetwork was not refused by name: %v\n%s", err, out)
		}
	})
	t.Run("GarbageOnTheAgentsPort", func(t *testing.T) { f.garbage(t, pods) })
	t.Run("ImageThatDoesNotExist", func(t *testing.T) { f.missingImage(t, pods, primary) })
	must(t, f.WaitHealthy(t.Context(), 3*time.Minute))
	f.marked(t)
	if now, err := f.Service.Primary(t.Context()); err != nil || now.Epoch != primary.Epoch {
		t.Errorf("the primary changed from %s in epoch %d to %s in epoch %d: %v", primary.Member, primary.Epoch, now.Member, now.Epoch, err)
	}
}

// garbage: who cannot prove to belong to the service is cut off, however it begins, and takes nobody's place.
func (f fixture) garbage(t *testing.T, pods []corev1.Pod) {
	needHost(t)
	stranger := strangersCertificate(t)
	for _, pod := range pods {
		address := net.JoinHostPort(pod.Status.PodIP, strconv.Itoa(agentPort))
		dialer := net.Dialer{Timeout: 2 * time.Second}
		for range 50 {
			plain, err := dialer.DialContext(t.Context(), "tcp", address)
			must(t, err)
			_, _ = plain.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
			defer plain.Close()
		}
		config := &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{stranger}} //nolint:gosec // it is the stranger who does not check
		encrypted, err := tls.DialWithDialer(&dialer, "tcp", address, config)
		if err != nil {
			continue // refused in the handshake
		}
		defer encrypted.Close()
		_ = encrypted.SetDeadline(time.Now().Add(5 * time.Second))
		_, _ = encrypted.Write(make([]byte, 1<<20))
		if n, err := encrypted.Read(make([]byte, 1)); err == nil {
			t.Errorf("the agent of %s answered a certificate of nobody with %d bytes", pod.Name, n)
		}
	}
	f.podsUnchanged(t, pods)
}

// strangersCertificate is one that no authority of ours signed.
func strangersCertificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"cache-0"}}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	return tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key}
}

// agentPort is the one that docs and NetworkPolicies name.
const agentPort = 7946

const hostNetwork = `
apiVersion: ha.understudy.dev/v1alpha1
kind: ReplicatedService
metadata: {name: wrong}
spec:
  engine: {redis: {}}
  template: {image: "docker.io/library/redis:7.0", hostNetwork: true}
`

// missingImage: one replica is made anew with an image that is missing, and everything else stays as it is and serves. When the spec
// is set back that one comes back by itself.
func (f fixture) missingImage(t *testing.T, pods []corev1.Pod, primary kube.Primary) {
	const missing = "docker.io/library/redis:0.0-none"
	f.patch(t, func(s *v1alpha1.ReplicatedServiceSpec) { s.Template.Image = missing })
	names(t, f.condition(t, v1alpha1.ConditionStalled, v1alpha1.ReasonImageNotFound), "spec.template.image", missing)
	f.condition(t, v1alpha1.ConditionAvailable, v1alpha1.ReasonPrimaryServing)
	f.othersUnchanged(t, pods, primary)
	f.patch(t, func(s *v1alpha1.ReplicatedServiceSpec) { s.Template.Image = image })
	must(t, f.WaitHealthy(t.Context(), 2*time.Minute))
	f.othersUnchanged(t, pods, primary)
}

// othersUnchanged checks that at most one pod was made anew, and that it is not the primary's.
func (f fixture) othersUnchanged(t *testing.T, before []corev1.Pod, primary kube.Primary) {
	t.Helper()
	now, err := f.Service.Pods(t.Context())
	must(t, err)
	if left := rounds.Same(before, now); len(left) < len(before)-1 || !slices.Contains(left, primary.Member) {
		t.Errorf("of %d pods only %v are as they were; one replica at most may have been made anew", len(before), left)
	}
}

// testBadStart: a new service that cannot start says why.
func testBadStart(t *testing.T) {
	t.Parallel()
	namespace := space(t, "start")
	f := redis(t, namespace, func(obj *v1alpha1.ReplicatedService) {
		obj.Spec.Engine.Redis.PasswordSecretRef = &v1alpha1.SecretKeyReference{Name: "absent", Key: "password"}
	})
	names(t, f.condition(t, v1alpha1.ConditionStalled, v1alpha1.ReasonSecretNotFound), "passwordSecretRef", "absent")
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "absent"}, StringData: map[string]string{"password": "correct horse"},
	}
	must(t, cluster.Create(t.Context(), secret))
	must(t, f.WaitHealthy(t.Context(), 3*time.Minute))
}

// names checks that a message names what a person has to change.
func names(t *testing.T, message string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(message, part) {
			t.Errorf("the message does not name %q: %s", part, message)
		}
	}
}
