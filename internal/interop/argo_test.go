package interop

import (
	"context"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/argoproj/argo-rollouts/analysis"
	"github.com/argoproj/argo-rollouts/controller/metrics"
	"github.com/argoproj/argo-rollouts/pkg/apis/rollouts/v1alpha1"
	"github.com/argoproj/argo-rollouts/pkg/client/clientset/versioned/fake"
	informers "github.com/argoproj/argo-rollouts/pkg/client/informers/externalversions"
	analysisutil "github.com/argoproj/argo-rollouts/utils/analysis"
	"github.com/argoproj/argo-rollouts/utils/queue"
	"github.com/argoproj/argo-rollouts/utils/record"
	timeutil "github.com/argoproj/argo-rollouts/utils/time"
	log "github.com/sirupsen/logrus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubeinformers "k8s.io/client-go/informers"
	kubefake "k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/yaml"
)

// speed is how much faster time goes for Argo's controller than on the wall.
const speed = 240

// fastQueue waits as much shorter as time goes faster.
type fastQueue struct {
	workqueue.RateLimitingInterface
}

func (q fastQueue) AddAfter(item any, d time.Duration) {
	q.RateLimitingInterface.AddAfter(item, d/speed)
}

// argo is Argo Rollouts' analysis controller on a cluster of its own, in which
// time goes faster.
type argo struct {
	client *fake.Clientset
	began  time.Time
}

var quiet = sync.OnceFunc(func() { log.SetLevel(log.ErrorLevel) })

func startArgo(t *testing.T, gates map[string]string) *argo {
	t.Helper()
	quiet()
	a := &argo{began: time.Now()}
	timeutil.SetNowTimeFunc(func() time.Time { return a.began.Add(time.Since(a.began) * speed) })
	t.Cleanup(func() { timeutil.SetNowTimeFunc(time.Now) })
	a.client = fake.NewSimpleClientset()
	kube := kubefake.NewSimpleClientset()
	ctx, cancel := context.WithCancel(context.Background())
	for name, url := range gates {
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "shop"}, Data: map[string][]byte{"url": []byte(url)}}
		if _, err := kube.CoreV1().Secrets("shop").Create(ctx, secret, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	work := fastQueue{workqueue.NewNamedRateLimitingQueue(queue.DefaultArgoRolloutsRateLimiter(), "AnalysisRuns")}
	runs, kubes := informers.NewSharedInformerFactory(a.client, 0), kubeinformers.NewSharedInformerFactory(kube, 0)
	c := analysis.NewController(analysis.ControllerConfig{KubeClientSet: kube, ArgoProjClientset: a.client,
		AnalysisRunInformer: runs.Argoproj().V1alpha1().AnalysisRuns(), JobInformer: kubes.Batch().V1().Jobs(), JobPodsInformer: kubes.Core().V1().Pods(),
		AnalysisRunWorkQueue: work,
		MetricsServer:        metrics.NewMetricsServer(metrics.ServerConfig{Addr: "127.0.0.1:0", K8SRequestProvider: &metrics.K8sRequestsCountProvider{}}),
		Recorder:             record.NewFakeEventRecorder()})
	runs.Start(ctx.Done())
	kubes.Start(ctx.Done())
	runs.WaitForCacheSync(ctx.Done())
	kubes.WaitForCacheSync(ctx.Done())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = c.Run(ctx, 4) // always nil
	}()
	t.Cleanup(func() {
		cancel()
		work.ShutDown()
		<-ended
	})
	return a
}

// run starts a run of a template of docs/delivery, checked as Argo checks it.
func (a *argo) run(t *testing.T, name, template string, args map[string]string) {
	t.Helper()
	text, err := os.ReadFile("../../docs/delivery/" + template)
	if err != nil {
		t.Fatal(err)
	}
	var tpl v1alpha1.AnalysisTemplate
	if err := yaml.UnmarshalStrict(text, &tpl); err != nil {
		t.Fatal(err)
	}
	if err := analysisutil.ValidateMetrics(tpl.Spec.Metrics); err != nil {
		t.Fatalf("%s: %v", template, err)
	}
	run := &v1alpha1.AnalysisRun{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "shop"}, Spec: v1alpha1.AnalysisRunSpec{Metrics: tpl.Spec.Metrics, Args: tpl.Spec.Args}}
	for i := range run.Spec.Args {
		arg := &run.Spec.Args[i]
		if v, ok := args[arg.Name]; ok && arg.ValueFrom == nil {
			arg.Value = &v
		} else if ok {
			arg.ValueFrom.SecretKeyRef.Name = v
		}
	}
	if _, err := a.client.ArgoprojV1alpha1().AnalysisRuns("shop").Create(t.Context(), run, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func (a *argo) get(t *testing.T, name string) v1alpha1.AnalysisRunStatus {
	t.Helper()
	r, err := a.client.ArgoprojV1alpha1().AnalysisRuns("shop").Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return r.Status
}

// await waits until a run has a phase, or time is up.
func (a *argo) await(t *testing.T, name string, want v1alpha1.AnalysisPhase) {
	t.Helper()
	for range 400 {
		if a.get(t, name).Phase == want {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Errorf("%s: %+v; want %s", name, a.get(t, name), want)
}

var argoTemplates = []struct {
	name, file string
}{
	{"prometheus", "argo-analysis-template.yaml"},
	{"web", "argo-analysis-template-web.yaml"},
	{"kayenta", "argo-analysis-template-kayenta.yaml"},
}

// stageArgs are the arguments by which a template asks about a stage.
func stageArgs(id string, stage int) map[string]string {
	return map[string]string{"gate": "gate-" + id, "stage": strconv.Itoa(stage), "config": id + "-stage-" + strconv.Itoa(stage)}
}

// TestArgo runs each template of the documentation in Argo's own controller.
func TestArgo(t *testing.T) {
	s := startSerin(t, "")
	gates := map[string]string{}
	for _, tpl := range argoTemplates {
		for _, end := range []string{"promote", "rollback"} {
			id := tpl.name + "-" + end
			s.rollout(t, id)
			gates["gate-"+id] = s.url + s.gate(t, id, "gate")
		}
	}
	a := startArgo(t, gates)
	for _, tpl := range argoTemplates {
		for _, end := range []string{"promote", "rollback"} {
			a.run(t, tpl.name+"-"+end, tpl.file, stageArgs(tpl.name+"-"+end, 0))
		}
	}
	time.Sleep(2 * time.Second) // eight minutes
	for _, tpl := range argoTemplates {
		for _, end := range []string{"promote", "rollback"} {
			id := tpl.name + "-" + end
			// Kayenta's analysis runs on while Serin's clock, which goes at its
			// usual speed, has not reached the end that Argo asked for.
			st := a.get(t, id)
			if st.Phase != v1alpha1.AnalysisPhaseRunning || len(st.MetricResults) == 0 || tpl.name != "kayenta" && st.MetricResults[0].Inconclusive == 0 {
				t.Errorf("%s during a hold: %+v; want running, inconclusive", id, st)
			}
			s.decide(t, id, end)
		}
	}
	for _, tpl := range argoTemplates {
		a.await(t, tpl.name+"-promote", v1alpha1.AnalysisPhaseSuccessful)
		a.await(t, tpl.name+"-rollback", v1alpha1.AnalysisPhaseFailed)
		// To ask about the next stage is to begin it; it has no evidence of its own
		// yet, but the person's promote goes on.
		id := tpl.name + "-promote"
		a.run(t, id+"-1", tpl.file, stageArgs(id, 1))
		a.await(t, id+"-1", v1alpha1.AnalysisPhaseSuccessful)
	}
}

// TestArgoOutage has Serin away for an hour of Argo's time, in each way: no
// analysis ends by it, and each goes on when Serin is back.
func TestArgoOutage(t *testing.T) {
	s := startSerin(t, "")
	for f := dead; f <= garbled; f++ {
		t.Run(faultNames[f], func(t *testing.T) {
			n := before(t, s)
			gates := map[string]string{}
			for _, tpl := range argoTemplates {
				id := tpl.name + strconv.Itoa(int(f))
				s.rollout(t, id)
				gates["gate-"+id] = n.URL + s.gate(t, id, "gate")
			}
			a := startArgo(t, gates)
			n.fault.Store(int32(f))
			for _, tpl := range argoTemplates {
				id := tpl.name + strconv.Itoa(int(f))
				a.run(t, id, tpl.file, stageArgs(id, 0))
			}
			time.Sleep(time.Hour / speed)
			if n.asked.Load() == 0 {
				t.Fatal("nothing was asked")
			}
			for _, tpl := range argoTemplates {
				id := tpl.name + strconv.Itoa(int(f))
				if st := a.get(t, id); st.Phase != v1alpha1.AnalysisPhaseRunning && st.Phase != "" {
					t.Errorf("%s: %+v; want running after an hour", id, st)
				}
				s.decide(t, id, map[bool]string{true: "promote", false: "rollback"}[f%2 == 0])
			}
			n.fault.Store(int32(none))
			n.CloseClientConnections()
			for _, tpl := range argoTemplates {
				a.await(t, tpl.name+strconv.Itoa(int(f)), map[bool]v1alpha1.AnalysisPhase{true: v1alpha1.AnalysisPhaseSuccessful, false: v1alpha1.AnalysisPhaseFailed}[f%2 == 0])
			}
		})
	}
}
