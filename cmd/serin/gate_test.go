package main

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
)

// gateURL makes a gate of the rollout r1.
func gateURL(t *testing.T, s *server, scope string) string {
	t.Helper()
	raw, err := call(t.Context(), "POST", s.url()+"/v1/rollouts/r1/gate", ownToken, strings.NewReader(`{"scope":"`+scope+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	var made struct{ Path string }
	if err := json.Unmarshal(raw, &made); err != nil || made.Path == "" {
		t.Fatalf("%s: %v", raw, err)
	}
	return s.url() + made.Path
}

// ask makes a request as a delivery tool does, without a token.
func ask(t *testing.T, method, url, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

func override(t *testing.T, s *server, decision string) {
	t.Helper()
	body := `{"decision":"` + decision + `","why":"a test"}`
	if _, err := call(t.Context(), "POST", s.url()+"/v1/rollouts/r1/override", ownToken, strings.NewReader(body)); err != nil {
		t.Fatal(err)
	}
}

// TestGate walks the dialects of a running server through the decisions.
func TestGate(t *testing.T) {
	s, _ := startServer(t, testConfig(t.TempDir()))
	two := strings.Replace(testRollout, `{"weight":0.5`, `{"weight":0.1,"min_sessions":20,"dwell":"1s","deadline":"5m"},{"weight":0.5`, 1)
	if _, err := call(t.Context(), "POST", s.url()+"/v1/rollouts", ownToken, strings.NewReader(two)); err != nil {
		t.Fatal(err)
	}
	gate, flag := gateURL(t, s, "gate"), gateURL(t, s, "flag")
	const thresholds = `{"thresholds":{"pass":95,"marginal":75},"scopes":{}}`
	want := func(method, url, body string, status int, parts ...string) {
		t.Helper()
		got, text := ask(t, method, url, body)
		if got != status {
			t.Errorf("%s %s: %d %s, want %d", method, strings.TrimPrefix(url, s.url()), got, text, status)
		}
		for _, p := range parts {
			if !strings.Contains(text, p) {
				t.Errorf("%s %s: %s: want %s in it", method, strings.TrimPrefix(url, s.url()), text, p)
			}
		}
	}
	execution := func(config string) string {
		t.Helper()
		_, text := ask(t, "POST", gate+"/kayenta/canary/"+config+"?application=shop-web", thresholds)
		var made struct{ CanaryExecutionID string }
		if err := json.Unmarshal([]byte(text), &made); err != nil || made.CanaryExecutionID == "" {
			t.Fatalf("%s: %v", text, err)
		}
		return gate + "/kayenta/canary/" + made.CanaryExecutionID
	}

	want("GET", gate, "", 200, `"decision":"hold"`, `"rollout":"r1"`)
	want("POST", gate+"/flagger/confirm-rollout", `{}`, 200)
	want("POST", gate+"/flagger/confirm-traffic-increase", `{}`, 200) // the first step begins, and no other
	want("POST", gate+"/flagger/confirm-traffic-increase", `{}`, 409)
	want("POST", gate+"/flagger/rollback", `{}`, 409)
	want("GET", gate+"/prometheus/api/v1/query?query=serin_verdict", "", 200, `"0"`)
	want("GET", gate+"/prometheus/api/v1/query?query=up", "", 400, "bad_data")
	want("GET", gate+"/kayenta/canaryConfig?application=shop-web", "", 200, `"name":"r1"`, `"name":"r1-stage-1"`)
	want("POST", gate+"/kayenta/canary/r1", `{"thresholds":{"pass":100,"marginal":0}}`, 400, "thresholds.pass", "thresholds.marginal")
	want("GET", execution("r1"), "", 200, `"score":85`) // no time to wait was given
	want("POST", flag+"/ofrep/v1/evaluate/flags/serin.release.r1.enabled", `{}`, 200, `"value":true`)
	want("POST", flag+"/ofrep/v1/evaluate/flags/other", `{}`, 404, "FLAG_NOT_FOUND")
	want("POST", flag+"/ofrep/v1/evaluate/flags/other", `{`, 400, "PARSE_ERROR", `"key":"other"`)
	for body, status := range map[string]int{`{"context":{"targetingKey":"u"}}`: 200, ``: 200, `{"context":`: 400, `[]`: 400, `"x"`: 400, `{"context":[1]}`: 400, `{} {}`: 400} {
		want("POST", flag+"/ofrep/v1/evaluate/flags", body, status)
	}
	want("GET", gate+"?stage=1", "", 200, `"decision":"hold"`, "stage 0 of 0 to 1 is under way")
	// One scope is not the other, and what is no capability is a hold.
	want("POST", gate+"/ofrep/v1/evaluate/flags", `{}`, 404)
	want("GET", flag, "", 200, `"state":"unknown"`, `"decision":"hold"`)
	want("GET", s.url()+"/v1/gate/x", "", 200, `"state":"unknown"`)
	want("POST", s.url()+"/v1/gate/x/flagger/rollback", "", 409)

	want("POST", gate+"/kayenta/judge", `{"canaryConfig":{"metrics":[{"name":"m","groups":["g"]}]},"scoreThresholds":{"pass":90,"marginal":50},"metricSetPairList":[{"name":"m","values":{"control":[1,2,3],"experiment":[1,2,3]}}]}`, 200, `"classification":"Pass"`, `"score":100`)
	want("POST", gate+"/kayenta/judge", `{}`, 400, "scoreThresholds")
	want("POST", s.url()+"/v1/gate/x/kayenta/judge", `{}`, 404)

	override(t, s, "promote")
	want("GET", gate+"?stage=0", "", 200, `"decision":"promote"`)
	want("POST", gate+"/flagger/confirm-promotion", `{}`, 409) // one stage is left
	want("GET", execution("r1-stage-0"), "", 200, `"score":100`)
	// A weight that no stage has moves nothing; the next stage's does.
	event := func(weight string) string {
		return `{"metadata":{"eventMessage":"Advance shop.test canary weight ` + weight + `"}}`
	}
	want("POST", gate+"/flagger/event", event("30"), 200)
	want("GET", gate+"?stage=0", "", 200, `"decision":"promote"`)
	want("POST", gate+"/flagger/event", event("50"), 200)
	want("GET", gate+"?stage=1", "", 200, `"decision":"promote"`, `"stage":1`) // the override goes on
	want("POST", gate+"/flagger/confirm-promotion", `{}`, 200)
	want("GET", gate+"?stage=0", "", 200, `"decision":"hold"`)

	override(t, s, "rollback")
	want("GET", gate+"?stage=1", "", 200, `"decision":"rollback"`)
	want("GET", gate+"?stage=7", "", 200, `"decision":"rollback"`)
	want("POST", gate+"/flagger/rollback", `{}`, 200)
	want("POST", gate+"/flagger/confirm-rollout", `{}`, 409)
	want("GET", gate+"/prometheus/api/v1/query?query=serin_verdict", "", 200, `"-1"`)
	want("GET", execution("r1"), "", 200, `"score":0`)
	want("POST", flag+"/ofrep/v1/evaluate/flags", `{}`, 200, `"value":false`)

	// While the analysis is down every dialect waits, and a flag keeps what its
	// client knows.
	s.engine.Store(nil)
	want("GET", gate, "", 200, `"state":"unavailable"`, `"decision":"hold"`)
	want("POST", gate+"/flagger/rollback", `{}`, 409)
	want("GET", gate+"/kayenta/canaryConfig", "", 200, `"name":"r1-stage-1"`)
	want("POST", flag+"/ofrep/v1/evaluate/flags", `{}`, 503)
}
