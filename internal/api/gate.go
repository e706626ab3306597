package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"serin.dev/serin/alerting/gate"
	"serin.dev/serin/analysis"
	"serin.dev/serin/analysis/verdict"
	"serin.dev/serin/internal/tenant"
)

// The routes of gates need no token: a capability in the path says which
// rollout may be asked about. A capability that is unknown or has expired is
// answered as a rollout that nobody knows, which is hold: tools take an error
// for a failed canary, and an old URL must not roll anything back.

// The life of a capability.
const (
	defaultLife = 30 * 24 * time.Hour
	maxLife     = 400 * 24 * time.Hour
)

// mint answers the URL of a gate.
func (a *API) mint(w http.ResponseWriter, r *http.Request, e *analysis.Engine, ac tenant.Access) error {
	body := struct {
		Scope   string `json:"scope"`   // gate (default) or flag
		Expires string `json:"expires"` // from now; default 720h
	}{"gate", defaultLife.String()}
	if err := read(w, r, &body); err != nil && !errors.Is(err, errEmpty) {
		return err
	}
	id := r.PathValue("id")
	if _, err := e.Status(ac.Tenant, id); err != nil {
		return err
	}
	scopes := map[string]tenant.Scope{"gate": tenant.ScopeGate, "flag": tenant.ScopeFlag}
	scope, ok := scopes[body.Scope]
	if !ok {
		return &badRequest{fmt.Sprintf("scope: %q: want gate or flag", body.Scope)}
	}
	life, err := time.ParseDuration(body.Expires)
	if err != nil || life < time.Minute || life > maxLife {
		return &badRequest{fmt.Sprintf("expires: %q: want 1m to %s", body.Expires, maxLife)}
	}
	until := a.o.Now().Add(life).Truncate(time.Second)
	path := "/v1/gate/" + a.o.Capabilities.Mint(tenant.Capability{Tenant: ac.Tenant, Rollout: id, Scope: scope, Expires: until})
	answer := map[string]any{"path": path, "scope": body.Scope, "expires": until.UTC()}
	if scope == tenant.ScopeFlag {
		answer["flag"] = gate.Flag(id)
	}
	return write(w, http.StatusCreated, answer)
}

// gates registers the dialects.
func (a *API) gates() {
	for _, g := range []struct {
		pattern string
		handle  func(http.ResponseWriter, *http.Request)
	}{
		{"GET /v1/gate/{cap}", a.gateNative}, {"POST /v1/gate/{cap}", a.gateNative},
		{"GET /v1/gate/{cap}/prometheus/api/v1/query", a.gatePrometheus}, {"POST /v1/gate/{cap}/prometheus/api/v1/query", a.gatePrometheus},
		{"POST /v1/gate/{cap}/flagger/{hook}", a.gateFlagger},
		{"GET /v1/gate/{cap}/kayenta/canaryConfig", a.kayentaConfigs}, {"GET /v1/gate/{cap}/kayenta/credentials", a.kayentaCredentials},
		{"POST /v1/gate/{cap}/kayenta/canary/{config}", a.kayentaCreate}, {"GET /v1/gate/{cap}/kayenta/canary/{execution}", a.kayentaResult},
		{"POST /v1/gate/{cap}/kayenta/judge", a.kayentaJudge},
		{"PUT /v1/gate/{cap}/kayenta/pipelines/{execution}/cancel", a.kayentaCancel},
		{"POST /v1/gate/{cap}/ofrep/v1/evaluate/flags", a.ofrepAll}, {"POST /v1/gate/{cap}/ofrep/v1/evaluate/flags/{key}", a.ofrepOne},
		{"OPTIONS /v1/gate/{cap}/ofrep/v1/evaluate/", ofrepPreflight},
	} {
		a.mux.HandleFunc(g.pattern, g.handle)
	}
}

// standing returns what the holder of the path's capability is told.
func (a *API) standing(r *http.Request, scope tenant.Scope, stage *int) (verdict.Standing, tenant.Capability) {
	k, err := a.o.Capabilities.Check(r.PathValue("cap"), a.o.Now())
	if err != nil || k.Scope != scope {
		return verdict.Standing{State: verdict.StateUnknown, Why: tenant.ErrCapability.Error() + ": want one that POST /v1/rollouts/ID/gate made"}, tenant.Capability{}
	}
	e := a.o.Engine()
	if e == nil {
		return verdict.Standing{State: verdict.StateUnavailable, Why: "the analysis is starting; until it answers this is a hold"}, k
	}
	s, err := e.Gate(r.Context(), k.Tenant, k.Rollout, stage)
	if err != nil {
		a.o.Logger.Error("a gate could not record the next stage", "tenant", k.Tenant.String(), "rollout", k.Rollout, "error", err)
	}
	return s, k
}

// answered keeps that a tool was answered rollback. What cannot be kept is answered
// all the same: the next answer is kept then.
func (a *API) answered(r *http.Request, k tenant.Capability, s verdict.Standing) {
	e := a.o.Engine()
	if e == nil || s.State != verdict.StateRollback {
		return
	}
	if err := e.Answered(r.Context(), k.Tenant, s); err != nil {
		a.o.Logger.Error("that a tool asked cannot be kept", "tenant", k.Tenant.String(), "rollout", k.Rollout, "error", err)
	}
}

// stageOf reads the query's stage; nil where there is none.
func stageOf(r *http.Request) (*int, error) {
	text := r.URL.Query().Get("stage")
	if text == "" {
		return nil, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return nil, fmt.Errorf("stage: %q: want the number of a stage, from 0", text)
	}
	return &n, nil
}

func (a *API) gateNative(w http.ResponseWriter, r *http.Request) {
	stage, err := stageOf(r)
	s, k := a.standing(r, tenant.ScopeGate, stage)
	if err == nil {
		a.answered(r, k, s)
	} else {
		s = verdict.Standing{State: verdict.StateUnknown, Why: err.Error()}
	}
	a.told(write(w, http.StatusOK, gate.Native(s)))
}

// told logs what only a fault of ours can be: an answer that is not JSON.
func (a *API) told(err error) {
	if err != nil {
		a.o.Logger.Error("a gate's answer could not be written", "error", err)
	}
}

func (a *API) gatePrometheus(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	at := a.o.Now()
	if text := r.FormValue("time"); text != "" {
		if sec, err := strconv.ParseFloat(text, 64); err == nil && sec > 0 && sec < 1e11 {
			at = time.UnixMilli(int64(sec * 1000))
		} else if t, err := time.Parse(time.RFC3339, text); err == nil {
			at = t
		}
	}
	q, err := gate.ParseQuery(r.FormValue("query"))
	var body []byte
	if err == nil {
		s, k := a.standing(r, tenant.ScopeGate, q.Stage)
		a.answered(r, k, s)
		body, err = gate.Prometheus(s, q, at)
	}
	status := http.StatusOK
	if err != nil {
		status, body = http.StatusBadRequest, gate.PrometheusError(err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that has gone is no error of ours
}

func (a *API) gateFlagger(w http.ResponseWriter, r *http.Request) {
	hook, err := gate.ParseHook(r.PathValue("hook"))
	if err != nil {
		fail(w, http.StatusConflict, "invalid", err.Error())
		return
	}
	s, k := a.standing(r, tenant.ScopeGate, nil)
	if e := a.o.Engine(); hook == gate.EventHook && e != nil && s.Verdict != nil {
		var body struct {
			Metadata struct {
				Message string `json:"eventMessage"`
			} `json:"metadata"`
		}
		// What cannot be read says nothing of a weight, and an event is only told.
		_ = json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&body)
		if weight, ok := gate.FlaggerWeight(body.Metadata.Message); ok {
			if err := e.GateWeight(r.Context(), k.Tenant, k.Rollout, weight); err != nil {
				a.o.Logger.Error("a gate could not record the next stage", "tenant", k.Tenant.String(), "rollout", k.Rollout, "error", err)
			}
		}
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	// 409, unlike 5xx, is not tried again before Flagger's next round.
	status := http.StatusConflict
	yes := gate.Flagger(hook, s)
	if e := a.o.Engine(); hook == gate.ConfirmTrafficIncrease && !yes && e != nil && s.State == verdict.StateHold {
		// Flagger asks before the first step, too, at which there is no evidence yet.
		if yes, err = e.Begin(r.Context(), k.Tenant, k.Rollout); err != nil {
			a.o.Logger.Error("that a canary begins cannot be kept", "tenant", k.Tenant.String(), "rollout", k.Rollout, "error", err)
		}
	}
	if yes {
		status = http.StatusOK
	}
	if hook == gate.RollbackHook {
		a.answered(r, k, s)
	}
	w.WriteHeader(status)
	// Flagger puts what an answer says in the canary's events.
	fmt.Fprintln(w, s.Sentence())
}

func (a *API) kayentaConfigs(w http.ResponseWriter, r *http.Request) {
	_, k := a.standing(r, tenant.ScopeGate, nil)
	configs := []gate.KayentaConfig{}
	if k.Rollout != "" {
		// Without an answer from the analysis no stage is missing that there could be.
		app, stages, created := "", 32, time.UnixMilli(0)
		if e := a.o.Engine(); e != nil {
			if s, err := e.Status(k.Tenant, k.Rollout); err == nil {
				app, stages, created = s.Rollout.App, len(s.Rollout.Stages), s.Created
			}
		}
		configs = gate.KayentaConfigs(k.Rollout, app, stages, created)
	}
	a.told(write(w, http.StatusOK, configs))
}

func (a *API) kayentaCredentials(w http.ResponseWriter, _ *http.Request) {
	a.told(write(w, http.StatusOK, []map[string]any{{"name": "serin", "type": "serin", "supportedTypes": []string{"METRICS_STORE", "CONFIGURATION_STORE", "OBJECT_STORE"}}}))
}

func (a *API) kayentaCreate(w http.ResponseWriter, r *http.Request) {
	k, err := a.o.Capabilities.Check(r.PathValue("cap"), a.o.Now())
	if err != nil {
		fail(w, http.StatusNotFound, "not_found", err.Error())
		return
	}
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var body gate.KayentaRequest
	if err == nil {
		body, err = gate.ParseKayentaRequest(raw)
	}
	if err != nil {
		fail(w, http.StatusBadRequest, "invalid", err.Error())
		return
	}
	x, err := gate.NewKayentaExecution(k.Rollout, r.PathValue("config"), body, a.o.Now())
	if err != nil {
		fail(w, http.StatusBadRequest, "invalid", err.Error())
		return
	}
	a.told(write(w, http.StatusOK, map[string]string{"canaryExecutionId": x.ID()}))
}

func (a *API) kayentaResult(w http.ResponseWriter, r *http.Request) {
	x, err := gate.ParseKayentaExecution(r.PathValue("execution"))
	if err != nil {
		fail(w, http.StatusNotFound, "not_found", err.Error())
		return
	}
	s, k := a.standing(r, tenant.ScopeGate, x.Stage)
	a.answered(r, k, s)
	a.told(write(w, http.StatusOK, gate.Kayenta(x, s, a.o.Now())))
}

// maxJudgeBody bounds a request of Kayenta's remote judge, which has all values.
const maxJudgeBody = 4 << 20

// kayentaJudge judges values that Kayenta has fetched elsewhere. It needs nothing of the
// rollout; the capability says who may ask.
func (a *API) kayentaJudge(w http.ResponseWriter, r *http.Request) {
	if _, err := a.o.Capabilities.Check(r.PathValue("cap"), a.o.Now()); err != nil {
		fail(w, http.StatusNotFound, "not_found", err.Error())
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxJudgeBody))
	var req gate.JudgeRequest
	if err == nil {
		req, err = gate.ParseJudgeRequest(body)
	}
	var res gate.JudgeResult
	if err == nil {
		res, err = gate.Judge(req)
	}
	if err != nil {
		fail(w, http.StatusBadRequest, "invalid", err.Error())
		return
	}
	a.told(write(w, http.StatusOK, res))
}

// kayentaCancel has nothing to cancel: an execution is its name.
func (a *API) kayentaCancel(w http.ResponseWriter, _ *http.Request) {
	a.told(write(w, http.StatusOK, map[string]any{}))
}

// cross lets pages of any origin read an answer: a flag's capability is in
// pages already.
func cross(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Expose-Headers", "ETag")
}

func ofrepPreflight(w http.ResponseWriter, _ *http.Request) {
	cross(w)
	h := w.Header()
	h.Set("Access-Control-Allow-Methods", "POST")
	h.Set("Access-Control-Allow-Headers", "Content-Type, If-None-Match, Authorization, X-API-Key")
	h.Set("Access-Control-Max-Age", "86400")
	w.WriteHeader(http.StatusNoContent)
}

// ofrepFault says what is wrong with the body of an evaluation, which is a JSON object
// whose context, an object as well, no value depends on. No body at all is none that is wrong.
func ofrepFault(w http.ResponseWriter, r *http.Request) string {
	var body struct {
		Context *map[string]json.RawMessage `json:"context"`
	}
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	switch {
	case err != nil:
		return fmt.Sprintf("body: %v", err)
	case len(bytes.TrimSpace(data)) > 0 && json.Unmarshal(data, &body) != nil:
		return `body: want a JSON object such as {"context":{"targetingKey":"u1"}}`
	}
	return ""
}

// ofrepParse is OFREP's code for a body that cannot be read.
const ofrepParse = "PARSE_ERROR"

func (a *API) ofrepOne(w http.ResponseWriter, r *http.Request) {
	cross(w)
	if fault := ofrepFault(w, r); fault != "" {
		a.told(write(w, http.StatusBadRequest, gate.Evaluation{Key: r.PathValue("key"), ErrorCode: ofrepParse, ErrorDetails: fault}))
		return
	}
	s, k := a.standing(r, tenant.ScopeFlag, nil)
	key := r.PathValue("key")
	if k.Rollout == "" || key != gate.Flag(k.Rollout) {
		rollout, _ := gate.FlagRollout(key)
		s = verdict.Standing{State: verdict.StateUnknown, Why: fmt.Sprintf("flag %q: this capability is not of the rollout %q", key, rollout)}
		e, _ := gate.OFREP(rollout, s)
		e.Key = key
		a.told(write(w, http.StatusNotFound, e))
		return
	}
	e, ok := gate.OFREP(k.Rollout, s)
	a.told(write(w, ofrepStatus(s, ok), e))
}

func ofrepStatus(s verdict.Standing, ok bool) int {
	switch {
	case ok:
		return http.StatusOK
	case s.State == verdict.StateUnknown:
		return http.StatusNotFound
	}
	return http.StatusServiceUnavailable
}

// matches reports whether an If-None-Match names a tag, as RFC 9110 compares (section
// 13.1.2): any of a list, and a weak one as well, which a proxy that compresses makes of
// ours.
func matches(values []string, tag string) bool {
	for _, v := range values {
		for one := range strings.SplitSeq(v, ",") {
			if one = strings.TrimSpace(one); one == "*" || strings.TrimPrefix(one, "W/") == tag {
				return true
			}
		}
	}
	return false
}

// ofrepAll answers all flags of a capability, which is one. Where there is no
// value the status is an error, so that the client goes on with what it knows.
func (a *API) ofrepAll(w http.ResponseWriter, r *http.Request) {
	cross(w)
	if fault := ofrepFault(w, r); fault != "" {
		a.told(write(w, http.StatusBadRequest, map[string]string{"errorCode": ofrepParse, "errorDetails": fault}))
		return
	}
	s, k := a.standing(r, tenant.ScopeFlag, nil)
	e, ok := gate.OFREP(k.Rollout, s)
	if !ok {
		a.told(write(w, ofrepStatus(s, ok), map[string]string{"errorCode": e.ErrorCode, "errorDetails": e.ErrorDetails}))
		return
	}
	body, err := json.Marshal(map[string]any{"flags": []gate.Evaluation{e}})
	if err != nil {
		a.told(err)
		return
	}
	h := w.Header()
	tag := gate.ETag(body)
	h.Set("ETag", tag)
	h.Set("Cache-Control", "no-cache")
	if matches(r.Header.Values("If-None-Match"), tag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", "application/json")
	_, _ = w.Write(body) // a client that has gone is no error of ours
}
