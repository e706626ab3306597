package interop

import (
	"testing"
	"time"
	_ "unsafe" // for a name that Flagger does not export

	flagger "github.com/fluxcd/flagger/pkg/apis/flagger/v1beta1"
	flaggercanary "github.com/fluxcd/flagger/pkg/canary"
	fakeflagger "github.com/fluxcd/flagger/pkg/client/clientset/versioned/fake"
	informers "github.com/fluxcd/flagger/pkg/client/informers/externalversions"
	"github.com/fluxcd/flagger/pkg/controller"
	"github.com/fluxcd/flagger/pkg/metrics/observers"
	"github.com/fluxcd/flagger/pkg/notifier"
	"github.com/fluxcd/flagger/pkg/router"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubefake "k8s.io/client-go/kubernetes/fake"
)

// cluster is Flagger's canary controller on a cluster of its own. A round is what it
// does at each interval of a canary, which is 30 s in the file of the documentation.
type cluster struct {
	t       *testing.T
	kube    *kubefake.Clientset
	flagger *fakeflagger.Clientset
	round   func(name, namespace string)
}

// startFlagger has the Canary of the documentation at a gate, with its primary up.
func startFlagger(t *testing.T, gate string) *cluster {
	t.Helper()
	c := canary(t, gate)
	c.ObjectMeta = metav1.ObjectMeta{Name: "shop", Namespace: "test"}
	c.Spec.Provider = "istio"
	for i := range c.Spec.Analysis.Webhooks {
		c.Spec.Analysis.Webhooks[i].Timeout = "1s"
	}
	one := int32(1)
	labels := map[string]string{"app": "shop"}
	deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "shop", Namespace: "test", Labels: labels},
		Spec: appsv1.DeploymentSpec{Replicas: &one, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "shop", Image: "shop:2.4.0", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 80}}}}}}}}
	k := &cluster{t: t, kube: kubefake.NewSimpleClientset(deployment), flagger: fakeflagger.NewSimpleClientset(&c)}
	logger := zap.NewNop().Sugar()
	factory := informers.NewSharedInformerFactory(k.flagger, 0).Flagger().V1beta1()
	tracker := &flaggercanary.ConfigTracker{Logger: logger, KubeClient: k.kube, FlaggerClient: k.flagger}
	observer, err := observers.NewFactory("http://127.0.0.1:1") // there are no metrics in the file
	if err != nil {
		t.Fatal(err)
	}
	prometheus.DefaultRegisterer = prometheus.NewRegistry() // each controller registers its metrics there, once
	ctrl := controller.NewController(k.kube, k.flagger, controller.Informers{CanaryInformer: factory.Canaries(), MetricInformer: factory.MetricTemplates(), AlertInformer: factory.AlertProviders()},
		time.Second, logger, &notifier.NopNotifier{}, flaggercanary.NewFactory(k.kube, k.flagger, tracker, []string{"app"}, []string{""}, logger),
		router.NewFactory(nil, k.kube, k.flagger, "", "", logger, k.flagger, true), observer, "istio", "1.36.1", "", "", false)
	k.round = func(name, namespace string) { advance(ctrl, name, namespace) }
	k.rounds(1)
	k.ready("shop-primary")
	k.rounds(1)
	k.ready("shop")
	if got := k.phase(); got != flagger.CanaryPhaseInitialized {
		t.Fatalf("phase %q: want Initialized", got)
	}
	return k
}

// advance is what Flagger's scheduler calls at each interval. It is exported to
// nobody, and an hour of rounds is not to take an hour.
//
//go:linkname advance github.com/fluxcd/flagger/pkg/controller.(*Controller).advanceCanary
func advance(ctrl *controller.Controller, name, namespace string)

func (k *cluster) rounds(n int) {
	for range n {
		k.round("shop", "test")
	}
}

// ready makes a deployment's pods ready, as the cluster would.
func (k *cluster) ready(name string) {
	k.t.Helper()
	d, err := k.kube.AppsV1().Deployments("test").Get(k.t.Context(), name, metav1.GetOptions{})
	if err == nil {
		d.Status = appsv1.DeploymentStatus{Replicas: 1, UpdatedReplicas: 1, ReadyReplicas: 1, AvailableReplicas: 1, ObservedGeneration: d.Generation}
		_, err = k.kube.AppsV1().Deployments("test").Update(k.t.Context(), d, metav1.UpdateOptions{})
	}
	if err != nil {
		k.t.Fatal(err)
	}
}

// deploy gives the target another image.
func (k *cluster) deploy(image string) {
	k.t.Helper()
	d, err := k.kube.AppsV1().Deployments("test").Get(k.t.Context(), "shop", metav1.GetOptions{})
	if err == nil {
		d.Spec.Template.Spec.Containers[0].Image = image
		_, err = k.kube.AppsV1().Deployments("test").Update(k.t.Context(), d, metav1.UpdateOptions{})
	}
	if err != nil {
		k.t.Fatal(err)
	}
}

func (k *cluster) status() flagger.CanaryStatus {
	k.t.Helper()
	c, err := k.flagger.FlaggerV1beta1().Canaries("test").Get(k.t.Context(), "shop", metav1.GetOptions{})
	if err != nil {
		k.t.Fatal(err)
	}
	return c.Status
}

func (k *cluster) phase() flagger.CanaryPhase { return k.status().Phase }

// primary returns the image of the primary.
func (k *cluster) primary() string {
	k.t.Helper()
	d, err := k.kube.AppsV1().Deployments("test").Get(k.t.Context(), "shop-primary", metav1.GetOptions{})
	if err != nil {
		k.t.Fatal(err)
	}
	return d.Spec.Template.Spec.Containers[0].Image
}

func (k *cluster) want(when string, phase flagger.CanaryPhase, weight int, primary string) {
	k.t.Helper()
	if s, image := k.status(), k.primary(); s.Phase != phase || s.CanaryWeight != weight || s.FailedChecks != 0 || image != primary {
		k.t.Errorf("%s: phase %s, weight %d, %d failed checks, primary %s; want %s, %d, none, %s", when, s.Phase, s.CanaryWeight, s.FailedChecks, image, phase, weight, primary)
	}
}

// TestFlaggerController has Flagger's own controller run the Canary of the
// documentation through a rollout, with an hour of Serin away at each place in it
// (a round where it hangs). Garbage with 200 is a yes to Flagger, and is left out: see
// the documentation.
func TestFlaggerController(t *testing.T) {
	for f, rounds := range map[fault]int{dead: 120, failing: 120, hanging: 1} { // of 30 s each; while Serin hangs each takes as long as its hooks wait
		t.Run(faultNames[f], func(t *testing.T) {
			s := startSerin(t, "")
			s.rollout(t, "r1")
			n := before(t, s)
			k := startFlagger(t, n.URL+s.gate(t, "r1", "gate"))
			away := func(when string, phase flagger.CanaryPhase, weight int, primary string) {
				t.Helper()
				asked := n.asked.Load()
				n.fault.Store(int32(f))
				k.rounds(rounds)
				k.want(when+", and Serin away", phase, weight, primary)
				n.fault.Store(int32(none))
				n.CloseClientConnections()
				if n.asked.Load() == asked {
					t.Errorf("%s: Serin was not asked", when)
				}
			}
			k.deploy("shop:2.4.1")
			away("a new revision", flagger.CanaryPhaseWaiting, 0, "shop:2.4.0")
			k.rounds(1)
			k.ready("shop")
			k.want("it may begin", flagger.CanaryPhaseProgressing, 0, "shop:2.4.0")
			away("before the first step", flagger.CanaryPhaseProgressing, 0, "shop:2.4.0")
			k.rounds(3)
			k.want("the first step, and no evidence", flagger.CanaryPhaseProgressing, 5, "shop:2.4.0")
			away("at the first step", flagger.CanaryPhaseProgressing, 5, "shop:2.4.0")
			s.decide(t, "r1", "promote")
			k.rounds(1)
			k.want("the first stage is promoted", flagger.CanaryPhaseProgressing, 25, "shop:2.4.0")
			s.decide(t, "r1", "hold")
			k.rounds(2)
			away("at the last step", flagger.CanaryPhaseProgressing, 25, "shop:2.4.0")
			s.decide(t, "r1", "rollback")
			away("rolled back, and not asked yet", flagger.CanaryPhaseProgressing, 25, "shop:2.4.0")
			k.rounds(1)
			if got := k.status(); got.Phase != flagger.CanaryPhaseFailed || k.primary() != "shop:2.4.0" {
				t.Errorf("rolled back: %+v, primary %s", got, k.primary())
			}
		})
	}
}

// TestFlaggerControllerPromotes goes the other way.
func TestFlaggerControllerPromotes(t *testing.T) {
	s := startSerin(t, "")
	s.rollout(t, "r1")
	k := startFlagger(t, s.url+s.gate(t, "r1", "gate"))
	k.deploy("shop:2.4.1")
	k.rounds(1)
	k.ready("shop")
	k.rounds(3)
	k.want("the first step", flagger.CanaryPhaseProgressing, 5, "shop:2.4.0")
	s.decide(t, "r1", "promote")
	k.rounds(4)
	k.ready("shop-primary")
	k.rounds(4)
	if got := k.status(); got.Phase != flagger.CanaryPhaseSucceeded || k.primary() != "shop:2.4.1" {
		t.Errorf("%+v, primary %s", got, k.primary())
	}
}
