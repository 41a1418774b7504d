package replicatedservice

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"reflect"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/internal/apply"
	"understudy.dev/understudy/internal/certs"
	"understudy.dev/understudy/internal/members"
	"understudy.dev/understudy/internal/names"
	"understudy.dev/understudy/internal/workload"
)

// secretStore remembers the few Secrets that were read, so that a look at rest needs no request, and the cache holds
// the metadata of Secrets only.
type secretStore struct {
	mu    sync.Mutex
	known map[types.NamespacedName]map[string]*corev1.Secret // by service, by name
}

func (s *secretStore) remember(service types.NamespacedName, secret *corev1.Secret) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil {
		s.known = map[types.NamespacedName]map[string]*corev1.Secret{}
	}
	if s.known[service] == nil {
		s.known[service] = map[string]*corev1.Secret{}
	}
	s.known[service][secret.Name] = secret
}

func (s *secretStore) recall(service types.NamespacedName, name string) *corev1.Secret {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known[service][name]
}

func (s *secretStore) forget(service types.NamespacedName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.known, service)
}

// secret reads a Secret, from memory where the metadata in the cache says that it did not change; nil if there is none.
func (r *Reconciler) secret(ctx context.Context, s *scope, name string) (*corev1.Secret, error) {
	key := types.NamespacedName{Namespace: s.svc.Namespace, Name: name}
	meta := secretKind()
	err := r.Client.Get(ctx, key, meta)
	if client.IgnoreNotFound(err) != nil {
		return nil, err
	}
	if have := r.secrets.recall(s.key(), name); err == nil && have != nil && have.ResourceVersion == meta.ResourceVersion {
		return have, nil
	}
	live := &corev1.Secret{}
	if err := r.Live.Get(ctx, key, live); err != nil {
		return nil, client.IgnoreNotFound(err)
	}
	r.secrets.remember(s.key(), live)
	return live, nil
}

// write creates or updates a Secret of ours.
func (r *Reconciler) write(ctx context.Context, s *scope, have *corev1.Secret, name string, data map[string][]byte) error {
	want := workload.Secret(s.svc, name, data)
	if have == nil {
		if err := r.Client.Create(ctx, want, apply.FieldOwner); err != nil {
			return fmt.Errorf("creating Secret %s: %w", name, err)
		}
		r.secrets.remember(s.key(), want)
		return nil
	}
	if reflect.DeepEqual(have.Data, data) {
		return nil
	}
	have = have.DeepCopy()
	have.Data = data
	if err := r.Client.Update(ctx, have, apply.FieldOwner); err != nil {
		return fmt.Errorf("updating Secret %s: %w", name, err)
	}
	r.secrets.remember(s.key(), have)
	return nil
}

// ours reads one of the Secrets that the operator makes, and fails if somebody else made it.
func (r *Reconciler) ours(ctx context.Context, s *scope, name string) (*corev1.Secret, error) {
	have, err := r.secret(ctx, s, name)
	if err != nil || have == nil {
		return nil, err
	}
	return have, apply.Owned(have, workload.Secret(s.svc, name, nil))
}

// ensurePassword makes a password, or checks the user's.
func (r *Reconciler) ensurePassword(ctx context.Context, s *scope) error {
	engine := workload.EngineOf(s.effective)
	if ref := engine.Superuser; ref != nil {
		if err := r.checkPassword(ctx, s, engine.Field("superuserPasswordSecretRef"), *ref); err != nil {
			return err
		}
	}
	if ref := engine.Pooler; ref != nil {
		if err := r.checkPassword(ctx, s, engine.Field("pgBouncer.passwordSecretRef"), *ref); err != nil {
			return err
		}
	}
	if ref := engine.Password; ref != nil {
		s.passwordSecret, s.passwordKey = ref.Name, workload.KeyOf(*ref)
		return r.checkPassword(ctx, s, engine.Field("passwordSecretRef"), *ref)
	}
	s.passwordSecret, s.passwordKey = names.AuthSecret(s.svc.Name), names.PasswordKey
	if !s.mayBuild() {
		return nil
	}
	have, err := r.ours(ctx, s, s.passwordSecret)
	if err != nil {
		return err
	}
	if have != nil && len(have.Data[names.PasswordKey]) > 0 {
		return nil
	}
	return r.write(ctx, s, have, s.passwordSecret, map[string][]byte{names.PasswordKey: []byte(rand.Text())})
}

// checkPassword looks at a Secret key that the user names in a field.
func (r *Reconciler) checkPassword(ctx context.Context, s *scope, field string, ref v1alpha1.SecretKeyReference) error {
	have, err := r.secret(ctx, s, ref.Name)
	if err != nil {
		return err
	}
	if p, wrong := passwordProblem(s, field, ref.Name, workload.KeyOf(ref), have); wrong {
		s.problems = append(s.problems, p)
	}
	return nil
}

func passwordProblem(s *scope, field, name, key string, have *corev1.Secret) (Problem, bool) {
	switch {
	case have == nil:
		return Problem{Reason: v1alpha1.ReasonSecretNotFound, Message: fmt.Sprintf(
			"%s.name: Secret %q does not exist in namespace %s: create it with the key %q, or remove the reference", field, name, s.svc.Namespace, key)}, true
	case have.Data[key] == nil:
		return Problem{Reason: v1alpha1.ReasonSecretKeyMissing, Message: fmt.Sprintf(
			"%s.key: Secret %q has no key %q: add it, or name another key", field, name, key)}, true
	case len(have.Data[key]) == 0:
		return Problem{Reason: v1alpha1.ReasonSecretKeyMissing, Message: fmt.Sprintf(
			"%s.key: key %q of Secret %q is empty: an engine without a password is open to everybody; set it", field, key, name)}, true
	case s.effective.Spec.Engine.PostgreSQL != nil && !printable(have.Data[key]):
		return Problem{Reason: v1alpha1.ReasonSecretKeyMissing, Message: fmt.Sprintf(
			"%s.key: key %q of Secret %q holds other than printable ASCII characters, which programs send in different ways: the password stays as it was; "+
				"set another", field, key, name)}, true
	}
	return Problem{}, false
}

// printable reports whether a password is of printable ASCII; a line's end after it counts for nothing.
func printable(password []byte) bool {
	password = bytes.TrimRight(password, "\r\n")
	return len(password) > 0 && !bytes.ContainsFunc(password, func(c rune) bool { return c < ' ' || c > '~' })
}

// ensureCertificates makes and renews the service's authority and the members' certificates.
func (r *Reconciler) ensureCertificates(ctx context.Context, s *scope) error {
	authority, err := r.ours(ctx, s, names.CASecret(s.svc.Name))
	if err != nil {
		return err
	}
	leaves, err := r.ours(ctx, s, names.CertsSecret(s.svc.Name))
	if err != nil {
		return err
	}
	have := certs.State{}
	if authority != nil {
		have.Authority = authority.Data
	}
	if leaves != nil {
		have.Members = leaves.Data
	}
	s.certs = have
	if !s.mayBuild() {
		return nil
	}
	want, next, err := certs.Renew(rand.Reader, s.now, have, "understudy "+s.svc.Namespace+"/"+s.svc.Name, s.leaves())
	if err != nil {
		return err
	}
	if err := r.write(ctx, s, authority, names.CASecret(s.svc.Name), want.Authority); err != nil {
		return err
	}
	if err := r.write(ctx, s, leaves, names.CertsSecret(s.svc.Name), want.Members); err != nil {
		return err
	}
	s.certs = want
	s.lookAt(next)
	return nil
}

func (s *scope) leaves() []certs.Leaf {
	var out []certs.Leaf
	for _, name := range s.memberNames() {
		out = append(out, certs.Leaf{
			Name: name, Life: certs.LeafLife,
			DNSNames: []string{name, names.MemberHost(name, s.svc.Name, s.svc.Namespace)},
		})
	}
	return out
}

// identity makes client certificates of the operator, a new one when two thirds of the last one's life are over.
type identity struct {
	now       func() time.Time
	authority certs.Pair
	roots     []byte

	mu   sync.Mutex
	cert tls.Certificate
}

func (i *identity) get() (tls.Certificate, *x509.CertPool, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(i.roots) {
		return tls.Certificate{}, nil, fmt.Errorf("the authorities of the service hold no certificate")
	}
	if i.cert.Leaf != nil && i.now().Before(certs.RenewAt(i.cert.Leaf)) {
		return i.cert, pool, nil
	}
	pair, err := certs.Issue(rand.Reader, i.now(), i.authority, certs.Leaf{Name: names.OperatorCertName, Life: certs.OperatorLife})
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	i.cert, err = tls.X509KeyPair(pair.Cert, pair.Key)
	return i.cert, pool, err
}

// syncMembers says which pods are to be connected to.
func (r *Reconciler) syncMembers(_ context.Context, s *scope) error {
	if len(s.certs.Authority) == 0 || len(s.certs.Members) == 0 {
		return nil
	}
	id := &identity{
		now:       r.Now,
		authority: certs.Pair{Cert: s.certs.Authority[certs.KeyAuthorityCert], Key: s.certs.Authority[certs.KeyAuthorityKey]},
		roots:     s.certs.Members[certs.KeyAuthorityCert],
	}
	wanted := members.Service{Key: s.key(), UID: string(s.svc.UID), Identity: id.get}
	for _, name := range s.memberNames() {
		if pod := s.pods[name]; pod != nil && pod.Status.PodIP != "" && !finished(pod) {
			wanted.Targets = append(wanted.Targets, members.Target{
				Member: name, PodUID: string(pod.UID), Address: agentAddress(pod.Status.PodIP),
			})
		}
	}
	r.Members.Sync(wanted)
	// What was known of a pod that is gone is not known of its successor.
	for name, report := range s.reports {
		if pod := s.pods[name]; pod == nil || string(pod.UID) != report.PodUID {
			delete(s.reports, name)
		}
	}
	return nil
}

func finished(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded
}
