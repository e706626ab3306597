package interop

import (
	"os"
	"strings"
	"testing"

	flagger "github.com/fluxcd/flagger/pkg/apis/flagger/v1beta1"
	"github.com/fluxcd/flagger/pkg/controller"
	"github.com/fluxcd/flagger/pkg/metrics/providers"
	"sigs.k8s.io/yaml"
)

// canary reads the Canary of the documentation and its metric, with their gate filled in.
func canary(t *testing.T, gate string) (flagger.Canary, flagger.MetricTemplate) {
	t.Helper()
	text, err := os.ReadFile("../../docs/delivery/flagger-canary.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var c flagger.Canary
	var m flagger.MetricTemplate
	parts := strings.Split(strings.ReplaceAll(string(text), "https://serin.example.com/GATE", gate), "\n---\n")
	if len(parts) != 2 {
		t.Fatalf("%d documents, want a MetricTemplate and a Canary", len(parts))
	}
	for i, into := range []any{&m, &c} {
		if err := yaml.UnmarshalStrict([]byte(parts[i]), into); err != nil {
			t.Fatal(err)
		}
	}
	c.Namespace, m.Namespace = "test", "test"
	return c, m
}

// answers asks each hook as Flagger does, and returns those that said yes.
func answers(t *testing.T, c flagger.Canary) string {
	t.Helper()
	var yes []string
	for _, w := range c.Spec.Analysis.Webhooks {
		if w.Type == flagger.EventHook {
			continue
		}
		if err := controller.CallWebhook(c, flagger.CanaryPhaseProgressing, w); err == nil {
			yes = append(yes, string(w.Type))
		}
	}
	return strings.Join(yes, " ")
}

// TestFlagger walks a rollout of two steps through Flagger's own callers.
func TestFlagger(t *testing.T) {
	s := startSerin(t, "")
	s.rollout(t, "r1")
	gate := s.url + s.gate(t, "r1", "gate")
	c, m := canary(t, gate)
	event := func(message string) {
		t.Helper()
		for _, w := range c.Spec.Analysis.Webhooks {
			if w.Type == flagger.EventHook {
				if err := controller.CallEventWebhook(&c, w, message, "Normal"); err != nil {
					t.Errorf("event: %v", err)
				}
			}
		}
	}
	want := func(when, yes string) {
		t.Helper()
		if got := answers(t, c); got != yes {
			t.Errorf("%s: yes to %q, want %q", when, got, yes)
		}
	}
	number := func(when string, want float64) {
		t.Helper()
		p, err := providers.NewPrometheusProvider(m.Spec.Provider, nil)
		if err != nil {
			t.Fatal(err)
		}
		if ok, err := p.IsOnline(); !ok || err != nil {
			t.Errorf("%s: Flagger takes the provider for offline: %v", when, err)
		}
		if got, err := p.RunQuery(m.Spec.Query); err != nil || got != want {
			t.Errorf("%s: %v, %v; want %v", when, got, err, want)
		}
	}
	event("New revision detected! Scaling up shop.test")
	want("no traffic yet", "confirm-rollout confirm-traffic-increase")
	want("no evidence yet", "confirm-rollout")
	number("no evidence yet", 0)
	s.decide(t, "r1", "promote")
	want("the first stage is promoted", "confirm-rollout confirm-traffic-increase")
	number("the first stage is promoted", 1)
	event("Advance shop.test canary weight 25")
	want("the last stage is promoted", "confirm-rollout confirm-traffic-increase confirm-promotion")
	s.decide(t, "r1", "rollback")
	want("rolled back", "rollback")
	number("rolled back", -1)
}

// TestFlaggerOutage has Serin away, in each way. Flagger looks at the status
// alone, so an answer of garbage with 200 is a yes to it, to every hook: the
// documentation says so, and TestFlaggerControllerGarbage what comes of it.
func TestFlaggerOutage(t *testing.T) {
	s := startSerin(t, "")
	s.rollout(t, "r1")
	n := before(t, s)
	c, _ := canary(t, n.URL+s.gate(t, "r1", "gate"))
	for i := range c.Spec.Analysis.Webhooks {
		c.Spec.Analysis.Webhooks[i].Timeout = "1s"
	}
	for _, decision := range []string{"hold", "promote", "rollback"} {
		s.decide(t, "r1", decision)
		for f := dead; f <= failing; f++ {
			n.fault.Store(int32(f))
			if got := answers(t, c); got != "" {
				t.Errorf("%s while Serin is %s: yes to %s", decision, faultNames[f], got)
			}
		}
	}
	n.fault.Store(int32(none))
	n.CloseClientConnections()
	if got := answers(t, c); got != "rollback" {
		t.Errorf("when Serin is back: yes to %q, want rollback", got)
	}
}
