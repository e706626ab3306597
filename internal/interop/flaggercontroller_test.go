package interop

import (
	"net/http"
	"slices"
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
	c, m := canary(t, gate)
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
	if err := factory.MetricTemplates().Informer().GetIndexer().Add(&m); err != nil {
		t.Fatal(err)
	}
	observer, err := observers.NewFactory("http://127.0.0.1:1") // the file has no metrics of Flagger's own
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
	if s, image := k.status(), k.primary(); s.Phase != phase || s.CanaryWeight != weight || image != primary {
		k.t.Errorf("%s: phase %s, weight %d, %d failed checks, primary %s; want %s, %d, %s", when, s.Phase, s.CanaryWeight, s.FailedChecks, image, phase, weight, primary)
	}
}

// hour is as many rounds as the documentation's canary has in an hour.
const hour = 120

// edit changes the Canary as its operator would.
func (k *cluster) edit(change func(*flagger.CanaryAnalysis)) {
	k.t.Helper()
	c, err := k.flagger.FlaggerV1beta1().Canaries("test").Get(k.t.Context(), "shop", metav1.GetOptions{})
	if err == nil {
		change(c.Spec.Analysis)
		_, err = k.flagger.FlaggerV1beta1().Canaries("test").Update(k.t.Context(), c, metav1.UpdateOptions{})
	}
	if err != nil {
		k.t.Fatal(err)
	}
}

// without takes the hooks of a type out, and returns them.
func (k *cluster) without(kind flagger.HookType) []flagger.CanaryWebhook {
	k.t.Helper()
	var out []flagger.CanaryWebhook
	k.edit(func(a *flagger.CanaryAnalysis) {
		a.Webhooks = slices.DeleteFunc(slices.Clone(a.Webhooks), func(w flagger.CanaryWebhook) bool {
			if w.Type != kind {
				return false
			}
			out = append(out, w)
			return true
		})
	})
	return out
}

// hang has Serin hang for an hour. A round has the waits that it always has; then they
// are short, and events, for which Flagger waits 5 s each and whose answer it does not
// look at, are not told, so that the hour does not take one.
func (k *cluster) hang() {
	k.t.Helper()
	k.rounds(1)
	events := k.without(flagger.EventHook)
	wait := func(hooks string, metric time.Duration) {
		k.edit(func(a *flagger.CanaryAnalysis) {
			for i := range a.Webhooks {
				a.Webhooks[i].Timeout = hooks
			}
		})
		http.DefaultClient.Timeout = metric // Flagger asks for metrics by it
	}
	wait("20ms", 20*time.Millisecond)
	k.rounds(hour - 1)
	wait("1s", 0)
	k.edit(func(a *flagger.CanaryAnalysis) { a.Webhooks = append(a.Webhooks, events...) })
}

// TestFlaggerController has Flagger's own controller run the Canary of the
// documentation through a rollout, with an hour of Serin away at each place in it.
func TestFlaggerController(t *testing.T) {
	for f := dead; f <= failing; f++ {
		t.Run(faultNames[f], func(t *testing.T) {
			s := startSerin(t, "")
			s.rollout(t, "r1")
			n := before(t, s)
			k := startFlagger(t, n.URL+s.gate(t, "r1", "gate"))
			away := func(when string, phase flagger.CanaryPhase, weight int, primary string) {
				t.Helper()
				asked := n.asked.Load()
				n.fault.Store(int32(f))
				if f == hanging {
					k.hang()
				} else {
					k.rounds(hour)
				}
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

// TestFlaggerControllerGarbage has something else answer 200 for Serin. That is a yes
// to every hook, and the metric keeps the canary from being promoted, or led on to its
// next step, by it.
func TestFlaggerControllerGarbage(t *testing.T) {
	start := func(t *testing.T) (*serin, *network, *cluster) {
		s := startSerin(t, "")
		s.rollout(t, "r1")
		n := before(t, s)
		k := startFlagger(t, n.URL+s.gate(t, "r1", "gate"))
		k.deploy("shop:2.4.1")
		return s, n, k
	}
	t.Run("no rollback hook", func(t *testing.T) {
		s, n, k := start(t)
		k.without(flagger.RollbackHook)
		garbage := func(when string, weight int) {
			t.Helper()
			failed := k.status().FailedChecks
			n.fault.Store(int32(garbled))
			k.rounds(1)
			k.ready("shop")
			k.rounds(hour - 1)
			k.want(when+", and garbage", flagger.CanaryPhaseProgressing, weight, "shop:2.4.0")
			n.fault.Store(int32(none))
			if failed = k.status().FailedChecks - failed; failed < hour-3 {
				t.Errorf("%s: %d failed checks in %d rounds of garbage", when, failed, hour)
			}
		}
		garbage("a new revision", 5) // Flagger asks for no metric before there is traffic
		k.rounds(2)
		garbage("at the first step", 5)
		s.decide(t, "r1", "hold")
		garbage("held", 5)
		s.decide(t, "r1", "promote")
		garbage("promoted, and not asked yet", 5)
		k.rounds(1)
		k.want("the first stage is promoted", flagger.CanaryPhaseProgressing, 25, "shop:2.4.0")
		s.decide(t, "r1", "hold")
		garbage("at the last step", 25)
		s.decide(t, "r1", "promote")
		garbage("promoted to the end, and not asked yet", 25)
		k.rounds(4)
		k.ready("shop-primary")
		k.rounds(4)
		if got := k.status(); got.Phase != flagger.CanaryPhaseSucceeded || k.primary() != "shop:2.4.1" {
			t.Errorf("promoted to the end: %+v, primary %s", got, k.primary())
		}
	})
	// No file can help there: the hook's contract is the status.
	t.Run("with it", func(t *testing.T) {
		_, n, k := start(t)
		k.rounds(1)
		k.ready("shop")
		k.rounds(3)
		k.want("the first step", flagger.CanaryPhaseProgressing, 5, "shop:2.4.0")
		n.fault.Store(int32(garbled))
		k.rounds(1)
		if got := k.status(); got.Phase != flagger.CanaryPhaseFailed || k.primary() != "shop:2.4.0" {
			t.Errorf("%+v, primary %s; garbage is a rollback to the hook, says the documentation", got, k.primary())
		}
	})
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
