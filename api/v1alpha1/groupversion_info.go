// Package v1alpha1 holds the API of Understudy: replicated services, the policies by which they fail over, and the
// record of each change of primary.
//
// +kubebuilder:object:generate=true
// +kubebuilder:ac:generate=true
// +groupName=ha.understudy.dev
package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var (
	// GroupVersion is the group and version of every kind in this package.
	GroupVersion = schema.GroupVersion{Group: "ha.understudy.dev", Version: "v1alpha1"}

	// SchemeGroupVersion is GroupVersion under the name that the generated apply configurations use.
	SchemeGroupVersion = GroupVersion

	// SchemeBuilder collects the functions that add this package's kinds to a scheme.
	SchemeBuilder = runtime.NewSchemeBuilder(addKnownTypes)

	// AddToScheme adds the kinds of this package to a scheme.
	AddToScheme = SchemeBuilder.AddToScheme
)

func addKnownTypes(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion,
		&ReplicatedService{}, &ReplicatedServiceList{},
		&FailoverPolicy{}, &FailoverPolicyList{},
		&Failover{}, &FailoverList{},
	)
	metav1.AddToGroupVersion(scheme, GroupVersion)
	return nil
}
