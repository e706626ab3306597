package gate

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"serin.dev/serin/analysis/verdict"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// standings returns every state that there is, with what else may differ drawn
// at random.
func standings(r *rand.Rand) []verdict.Standing {
	v := func(d verdict.Decision, left time.Duration) *verdict.Verdict {
		return &verdict.Verdict{Version: 1, Tenant: "own", Rollout: "r1", App: "shop", Number: r.Uint64N(100), Decision: d, Stage: r.IntN(3), IssuedAt: noon.Add(-time.Hour),
			ValidUntil: noon.Add(left), Reasons: []verdict.Reason{{Code: verdict.Evidence, Text: "x"}}, Sentence: "a sentence"}
	}
	last := r.IntN(2) == 0
	return []verdict.Standing{
		{},
		{State: verdict.StateUnknown, Why: "unknown"},
		{State: verdict.StateUnavailable, Why: "down"},
		verdict.Stand(v(verdict.Hold, time.Minute), last, noon),
		verdict.Stand(v(verdict.Hold, -time.Minute), last, noon),
		verdict.Stand(v(verdict.Promote, time.Minute), last, noon),
		verdict.Stand(v(verdict.Promote, -time.Minute), last, noon),
		verdict.Stand(v(verdict.Rollback, time.Minute), last, noon),
		verdict.Stand(v(verdict.Rollback, -24*time.Hour), last, noon),
	}
}

// TestDialectsAgree reads each dialect as its tool does and holds that none
// says another thing than the verdict.
func TestDialectsAgree(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 2000 {
		for i, s := range standings(r) {
			want := s.Decision()
			for name, got := range read(t, r, s) {
				if got != want {
					t.Fatalf("state %d (%s, %+v): %s says %s, the verdict %s", i, s.State, s.Verdict, name, got, want)
				}
			}
		}
	}
}

// read returns what each tool makes of a standing. A dialect that can only say
// a part (go or not go, back or not back) is completed by its other half.
func read(t *testing.T, r *rand.Rand, s verdict.Standing) map[string]verdict.Decision {
	got := map[string]verdict.Decision{}

	// Argo's web provider: successCondition, failureCondition, else inconclusive.
	raw, err := json.Marshal(Native(s))
	if err != nil {
		t.Fatal(err)
	}
	var native struct{ Decision string }
	if err := json.Unmarshal(raw, &native); err != nil {
		t.Fatal(err)
	}
	got["native"] = verdict.Decision(slices.Index([]string{"hold", "promote", "rollback"}, native.Decision))

	raw, err = Prometheus(s, Query{}, noon)
	if err != nil {
		t.Fatal(err)
	}
	var prom struct {
		Status string
		Data   struct {
			ResultType string
			Result     []struct{ Value []any }
		}
	}
	if err := json.Unmarshal(raw, &prom); err != nil || prom.Status != "success" || prom.Data.ResultType != "vector" || len(prom.Data.Result) != 1 {
		t.Fatalf("%s: %v", raw, err)
	}
	text, _ := prom.Data.Result[0].Value[1].(string)
	value, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(value) {
		t.Fatalf("%s: %v", raw, err)
	}
	got["prometheus"] = three(value > 0, value < 0)

	// Orca and Argo read the score against any thresholds that are accepted.
	marginal := 1 + r.IntN(96)
	pass := marginal + 2 + r.IntN(98-marginal)
	x, err := NewKayentaExecution("r1", "r1", KayentaRequest{Thresholds: KayentaThresholds{float64(pass), float64(marginal)}}, noon.Add(-time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	res := Kayenta(x, s, noon)
	score := res.Result.JudgeResult.Score.Score
	if score == marginal || score == pass {
		t.Fatalf("score %d lies on a threshold of %d, %d", score, marginal, pass)
	}
	got["argo kayenta"] = three(score >= pass, score < marginal)
	got["orca"] = three(score >= pass, score <= marginal)
	x.End = noon.Add(time.Minute).UnixMilli()
	if res := Kayenta(x, s, noon); res.Complete != (s.Decision() != verdict.Hold) {
		t.Fatalf("before its end an execution of %s is complete: %v", s.State, res.Complete)
	}

	yes := func(h Hook) bool { return Flagger(h, s) }
	got["flagger traffic"] = three(yes(ConfirmTrafficIncrease), yes(RollbackHook))
	if yes(ConfirmPromotion) && !s.Last {
		t.Fatalf("%+v: the canary becomes the primary before the last stage", s)
	}
	if s.Last {
		got["flagger promotion"] = three(yes(ConfirmPromotion), yes(RollbackHook))
	}
	if yes(ConfirmRollout) && (s.Decision() == verdict.Rollback || s.Verdict == nil) {
		t.Fatalf("%+v: a canary begins that is rolled back, or that nobody knows", s)
	}

	// A kill switch tells rollback from the rest, and nothing at all where
	// nothing is known.
	if e, ok := OFREP("r1", s); ok != (s.Verdict != nil) || ok && *e.Value == (s.Decision() == verdict.Rollback) || !ok && e.Value != nil {
		t.Fatalf("%+v: %+v", s, e)
	}
	return got
}

func three(promote, rollback bool) verdict.Decision {
	switch {
	case promote && rollback:
		return -1
	case promote:
		return verdict.Promote
	case rollback:
		return verdict.Rollback
	}
	return verdict.Hold
}

func TestPrometheusQueries(t *testing.T) {
	for text, want := range map[string]string{
		"vector(1)": "1", " vector( 0.5 ) ": "0.5", "serin_verdict": "0", `serin_verdict{rollout="r1",app="shop"}`: "0", `serin_verdict{ stage = "2" }`: "0",
		"up": "", "vector(NaN)": "", "serin_verdict > 0": "", "": "", `serin_verdict{}{}`: "", `serin_verdict{stage="-1"}`: "", `serin_verdict{stage=""}`: "",
	} {
		q, err := ParseQuery(text)
		if (err == nil) != (want != "") {
			t.Errorf("%q: %v; want %q", text, err, want)
			continue
		}
		if err != nil {
			if !json.Valid(PrometheusError(err)) {
				t.Errorf("%q: the error is not JSON", text)
			}
			continue
		}
		if raw, err := Prometheus(verdict.Standing{}, q, noon); err != nil || !containsValue(raw, want) {
			t.Errorf("%q: %s, %v; want %s", text, raw, err, want)
		}
	}
	for text, want := range map[string]int{`serin_verdict{rollout="r1", stage="3"}`: 3, `serin_verdict{stage="0"}`: 0, `serin_verdict{my_stage="1"}`: -1, "serin_verdict": -1} {
		q, err := ParseQuery(text)
		got := -1
		if q.Stage != nil {
			got = *q.Stage
		}
		if err != nil || got != want {
			t.Errorf("%q: stage %d, %v; want %d", text, got, err, want)
		}
	}
}

func containsValue(raw []byte, want string) bool {
	var body struct {
		Data struct{ Result []struct{ Value []any } }
	}
	return json.Unmarshal(raw, &body) == nil && fmt.Sprint(body.Data.Result[0].Value[1]) == want
}

func TestKayentaRequests(t *testing.T) {
	for _, c := range []struct {
		config         string
		marginal, pass float64
		ok             bool
	}{
		{"r1", 75, 95, true}, {"r1-stage-2", 1, 3, true}, {"r1-stage-0", 97, 99, true},
		{"r1", 0, 50, false}, {"r1", 50, 51, false}, {"r1", 50, 100, false}, {"r1", 50.5, 90, false}, {"r1", math.NaN(), 90, false}, {"r1", 90, 50, false},
		{"other", 75, 95, false}, {"r1-stage-", 75, 95, false}, {"r1-stage--1", 75, 95, false},
	} {
		x, err := NewKayentaExecution("r1", c.config, KayentaRequest{Thresholds: KayentaThresholds{c.pass, c.marginal}}, noon)
		if (err == nil) != c.ok {
			t.Errorf("%+v: %v", c, err)
		}
		if err != nil {
			continue
		}
		if again, err := ParseKayentaExecution(x.ID()); err != nil || again.ID() != x.ID() {
			t.Errorf("%+v: %+v, %v", c, again, err)
		}
	}
}

func FuzzKayentaExecution(f *testing.F) {
	f.Add(KayentaExecution{Pass: 95, Marginal: 75}.ID())
	f.Add("e30")
	f.Fuzz(func(t *testing.T, id string) {
		x, err := ParseKayentaExecution(id)
		if err != nil {
			return
		}
		for _, s := range standings(rand.New(rand.NewPCG(1, 1))) {
			if res := Kayenta(x, s, noon); res.Result != nil {
				if score := res.Result.JudgeResult.Score.Score; score == x.Marginal || score == x.Pass {
					t.Fatalf("%+v: score %d", x, score)
				}
			}
		}
	})
}

func TestFlaggerWeight(t *testing.T) {
	for message, want := range map[string]float64{
		"Advance podinfo.test canary weight 20": 0.2, "Advance podinfo.test canary weight 100": 1,
		"Advance podinfo.test canary weight 0": 0, "Advance podinfo.test canary weight 101": 0, "Advance a b canary weight 20": 0,
		"Starting canary analysis for podinfo.test": 0, "": 0,
	} {
		if got, ok := FlaggerWeight(message); got != want || ok != (want > 0) {
			t.Errorf("%q: %v %v, want %v", message, got, ok, want)
		}
	}
}

func TestParseHook(t *testing.T) {
	if _, err := ParseHook("rollout"); err == nil {
		t.Error("a hook that is not served is accepted")
	}
	if h, err := ParseHook("rollback"); err != nil || Flagger(h, verdict.Standing{}) {
		t.Errorf("%v %v", h, err)
	}
}
