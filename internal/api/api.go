// Package api is HTTP for people and delivery tools: rollouts, their verdicts
// and the evidence, and one plain page that shows them. Every route but the
// page and the probes needs a token, and sees that token's tenant alone.
package api

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"serin.dev/serin/alerting/alert"
	"serin.dev/serin/analysis"
	"serin.dev/serin/analysis/canary"
	"serin.dev/serin/internal/tenant"
)

// Options say what the API works on.
type Options struct {
	Tenants *tenant.Directory
	Engine  func() *analysis.Engine // nil while the analysis is down
	Held    Quarantine
	Logger  *slog.Logger
	// Deliveries is what was told to webhooks, and is to be.
	Deliveries Deliveries
	// Alerts is the book of incidents and silences.
	Alerts Alerts
	// Capabilities are those that stand in the URLs of gates.
	Capabilities *tenant.Capabilities
	Now          func() time.Time // default time.Now
}

// Quarantine is what the edge holds back of a tenant's input.
type Quarantine interface {
	// Quarantined returns what is held, as JSON has it.
	Quarantined(tenant.ID) any
	// QuarantinedBody returns the bytes of one entry.
	QuarantinedBody(id tenant.ID, entry int64) ([]byte, bool)
	// Release lets bodies of a fingerprint be tasted again.
	Release(id tenant.ID, fingerprint string) bool
}

// Deliveries is the outbox, for people.
type Deliveries interface {
	// List returns a tenant's deliveries, as JSON has them.
	List(context.Context, *analysis.Engine, tenant.ID) (any, error)
	// Replay tells a message again; ok is false where there is no such one.
	Replay(ctx context.Context, e *analysis.Engine, id tenant.ID, message, who string) (ok bool, err error)
}

// API serves the control and query routes.
type API struct {
	o   Options
	mux *http.ServeMux
}

// Route is one route of the API, for whoever documents or tests them all.
type Route struct {
	Method, Path string
	Role         tenant.Role // needed; NoRole: none
}

type handler func(w http.ResponseWriter, r *http.Request, e *analysis.Engine, a tenant.Access) error

//go:embed page.html
var page []byte

// New returns an API.
func New(o Options) *API {
	if o.Now == nil {
		o.Now = time.Now
	}
	a := &API{o: o, mux: http.NewServeMux()}
	a.gates()
	for _, rt := range a.table() {
		a.mux.HandleFunc(rt.Method+" "+rt.Path, a.guard(rt))
	}
	a.mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'")
		h.Set("X-Content-Type-Options", "nosniff")
		w.Write(page)
	})
	return a
}

type route struct {
	Route
	handle handler
	alone  bool // served while the analysis is down: the handler gets no engine
}

func (a *API) table() []route {
	return []route{
		{Route{"POST", "/v1/rollouts", tenant.Releaser}, a.create, false},
		{Route{"GET", "/v1/rollouts", tenant.Viewer}, a.list, false},
		{Route{"GET", "/v1/rollouts/{id}", tenant.Viewer}, a.status, false},
		{Route{"POST", "/v1/rollouts/{id}/stage", tenant.Releaser}, a.stage, false},
		{Route{"POST", "/v1/rollouts/{id}/override", tenant.Releaser}, a.override, false},
		{Route{"POST", "/v1/rollouts/{id}/shadow", tenant.Releaser}, a.shadow, false},
		{Route{"POST", "/v1/rollouts/{id}/assigned", tenant.Releaser}, a.assigned, false},
		{Route{"POST", "/v1/rollouts/{id}/gate", tenant.Releaser}, a.mint, false},
		{Route{"GET", "/v1/rollouts/{id}/verdict", tenant.Viewer}, a.verdict, false},
		{Route{"GET", "/v1/rollouts/{id}/evidence", tenant.Viewer}, a.evidence, false},
		{Route{"GET", "/v1/events", tenant.Viewer}, a.events, false},
		{Route{"GET", "/v1/slos", tenant.Viewer}, a.slos, false},
		{Route{"GET", "/v1/slos/{id}", tenant.Viewer}, a.slo, false},
		{Route{"GET", "/v1/slos/{id}/who", tenant.Viewer}, a.whoSpent, false},
		{Route{"POST", "/v1/slos/{id}/exception", tenant.Releaser}, a.except, false},
		{Route{"GET", "/v1/releases", tenant.Viewer}, a.releases, false},
		{Route{"POST", "/v1/releases", tenant.Releaser}, a.setRelease, false},
		{Route{"GET", "/v1/documents", tenant.Viewer}, a.documents, false},
		{Route{"POST", "/v1/documents", tenant.Releaser}, a.applyDocuments, false},
		{Route{"POST", "/v1/documents/check", tenant.Viewer}, a.checkDocuments, false},
		{Route{"GET", "/v1/documents/changes", tenant.Viewer}, a.changes, false},
		{Route{"POST", "/v1/documents/back", tenant.Admin}, a.back, false},
		{Route{"PUT", "/v1/documents/{kind}/{name}", tenant.Releaser}, a.putDocument, false},
		{Route{"GET", "/v1/deliveries", tenant.Viewer}, a.deliveries, false},
		{Route{"POST", "/v1/deliveries/{id}/replay", tenant.Releaser}, a.replay, false},
		{Route{"GET", "/v1/alerts", tenant.Viewer}, a.alerts, true},
		{Route{"GET", "/v1/silences", tenant.Viewer}, a.silences, true},
		{Route{"POST", "/v1/silences", tenant.Releaser}, a.silence, true},
		{Route{"DELETE", "/v1/silences/{id}", tenant.Releaser}, a.unsilence, true},
		{Route{"GET", "/v1/quarantine", tenant.Admin}, a.quarantined, true},
		{Route{"GET", "/v1/quarantine/{id}", tenant.Admin}, a.quarantinedBody, true},
		{Route{"POST", "/v1/quarantine/{id}/release", tenant.Admin}, a.release, true},
	}
}

// Routes returns all routes that need a token.
func (a *API) Routes() []Route {
	var rs []Route
	for _, r := range a.table() {
		rs = append(rs, r.Route)
	}
	return rs
}

// ServeHTTP serves the routes.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.mux.ServeHTTP(w, r) }

// guard checks the token before anything else is looked at.
func (a *API) guard(rt route) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		text, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		access, err := a.o.Tenants.Token(text)
		switch {
		case !ok || err != nil:
			w.Header().Set("WWW-Authenticate", `Bearer realm="serin"`)
			fail(w, http.StatusUnauthorized, "token", "want the header Authorization: Bearer TOKEN, with a token of a tenant")
		case access.Role < rt.Role:
			fail(w, http.StatusForbidden, "role", fmt.Sprintf("the token %q is a %s; this needs a %s", access.Token, access.Role, rt.Role))
		default:
			engine := a.o.Engine()
			if engine == nil && !rt.alone {
				w.Header().Set("Retry-After", "2")
				fail(w, http.StatusServiceUnavailable, "analysis_down", "the analysis is starting; beacons are taken meanwhile")
				return
			}
			if err := rt.handle(w, r, engine, access); err != nil {
				a.explain(w, r, access, err)
			}
		}
	}
}

// explain turns an error into an answer. One that we do not know is ours, and
// its text stays with the operator.
func (a *API) explain(w http.ResponseWriter, r *http.Request, access tenant.Access, err error) {
	var bad *badRequest
	switch {
	case errors.Is(err, analysis.ErrNotFound), errors.Is(err, analysis.ErrNoObjective):
		fail(w, http.StatusNotFound, "not_found", err.Error())
	case errors.Is(err, analysis.ErrExists), errors.Is(err, analysis.ErrBudget), errors.Is(err, analysis.ErrStage), errors.Is(err, analysis.ErrEnded), errors.Is(err, analysis.ErrBasis), errors.Is(err, analysis.ErrRelease):
		fail(w, http.StatusConflict, "conflict", err.Error())
	case errors.Is(err, analysis.ErrCatchingUp):
		w.Header().Set("Retry-After", "2")
		fail(w, http.StatusServiceUnavailable, "catching_up", err.Error())
	case errors.Is(err, errTooLarge):
		fail(w, http.StatusRequestEntityTooLarge, "size", err.Error())
	case errors.As(err, &bad), errors.Is(err, canary.ErrInvalid), errors.Is(err, analysis.ErrException), errors.Is(err, alert.ErrInvalid):
		fail(w, http.StatusBadRequest, "invalid", err.Error())
	default:
		a.o.Logger.Error("request failed", "tenant", access.Tenant.String(), "method", r.Method, "path", r.URL.Path, "error", err)
		fail(w, http.StatusInternalServerError, "internal", "the operator's log has the reason")
	}
}

type badRequest struct{ text string }

func (b *badRequest) Error() string { return b.text }

func fail(w http.ResponseWriter, status int, reason, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]string{"reason": reason, "message": message}})
}

func write(w http.ResponseWriter, status int, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write answer: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	// A client that has gone is no error of ours.
	_, _ = w.Write(append(data, '\n'))
	return nil
}

func (a *API) create(w http.ResponseWriter, r *http.Request, e *analysis.Engine, ac tenant.Access) error {
	var ro canary.Rollout
	if err := read(w, r, &ro); err != nil {
		return err
	}
	s, err := e.Create(r.Context(), ac.Tenant, ro)
	if err != nil {
		return err
	}
	return write(w, http.StatusCreated, s)
}

func (a *API) list(w http.ResponseWriter, _ *http.Request, e *analysis.Engine, ac tenant.Access) error {
	return write(w, http.StatusOK, map[string]any{"rollouts": e.List(ac.Tenant)})
}

func (a *API) status(w http.ResponseWriter, r *http.Request, e *analysis.Engine, ac tenant.Access) error {
	s, err := e.Status(ac.Tenant, r.PathValue("id"))
	if err != nil {
		return err
	}
	return write(w, http.StatusOK, s)
}

func (a *API) stage(w http.ResponseWriter, r *http.Request, e *analysis.Engine, ac tenant.Access) error {
	var body struct {
		Stage *int `json:"stage"`
	}
	if err := read(w, r, &body); err != nil {
		return err
	}
	if body.Stage == nil {
		return &badRequest{"stage: absent: want the number of a stage, from 0"}
	}
	s, err := e.SetStage(r.Context(), ac.Tenant, r.PathValue("id"), *body.Stage)
	if err != nil {
		return err
	}
	return write(w, http.StatusOK, s)
}

func (a *API) override(w http.ResponseWriter, r *http.Request, e *analysis.Engine, ac tenant.Access) error {
	var body struct {
		Decision string `json:"decision"` // empty withdraws
		Why      string `json:"why"`
	}
	if err := read(w, r, &body); err != nil {
		return err
	}
	s, err := e.Override(r.Context(), ac.Tenant, r.PathValue("id"), canary.Force{Decision: body.Decision, Who: ac.Token, Why: body.Why})
	if err != nil {
		return err
	}
	return write(w, http.StatusOK, s)
}

func (a *API) assigned(w http.ResponseWriter, r *http.Request, e *analysis.Engine, ac tenant.Access) error {
	var n analysis.Assigned
	if err := read(w, r, &n); err != nil {
		return err
	}
	s, err := e.Assigned(r.Context(), ac.Tenant, r.PathValue("id"), n)
	if err != nil {
		return err
	}
	return write(w, http.StatusOK, s)
}

func (a *API) shadow(w http.ResponseWriter, r *http.Request, e *analysis.Engine, ac tenant.Access) error {
	var body struct {
		Policy *canary.Policy `json:"policy"` // null ends the trial
	}
	if err := read(w, r, &body); err != nil {
		return err
	}
	s, err := e.Shadow(r.Context(), ac.Tenant, r.PathValue("id"), body.Policy)
	if err != nil {
		return err
	}
	return write(w, http.StatusOK, s)
}

// maxWait bounds a long poll, so that proxies on the way do not cut it.
const maxWait = time.Minute

func (a *API) verdict(w http.ResponseWriter, r *http.Request, e *analysis.Engine, ac tenant.Access) error {
	var wait time.Duration
	var after uint64
	if s := r.URL.Query().Get("wait"); s != "" {
		var err error
		if wait, err = time.ParseDuration(s); err != nil || wait < 0 || wait > maxWait {
			return &badRequest{fmt.Sprintf("wait: %q: want 0s to %v", s, maxWait)}
		}
	}
	if s := r.URL.Query().Get("after"); s != "" {
		var err error
		if after, err = strconv.ParseUint(s, 10, 64); err != nil {
			return &badRequest{fmt.Sprintf("after: %q: want the number of a verdict", s)}
		}
	}
	ctx, cancel := context.WithTimeout(r.Context(), wait)
	defer cancel()
	v, err := e.Wait(ctx, ac.Tenant, r.PathValue("id"), after)
	if err != nil {
		return err
	}
	return write(w, http.StatusOK, v)
}

func (a *API) evidence(w http.ResponseWriter, r *http.Request, e *analysis.Engine, ac tenant.Access) error {
	ev, err := e.Evidence(ac.Tenant, r.PathValue("id"))
	if err != nil {
		return err
	}
	return write(w, http.StatusOK, ev)
}

func (a *API) events(w http.ResponseWriter, r *http.Request, e *analysis.Engine, ac tenant.Access) error {
	limit := 100
	if s := r.URL.Query().Get("limit"); s != "" {
		var err error
		if limit, err = strconv.Atoi(s); err != nil || limit < 1 || limit > 2000 {
			return &badRequest{fmt.Sprintf("limit: %q: want 1 to 2000", s)}
		}
	}
	return write(w, http.StatusOK, map[string]any{"events": e.Recent(ac.Tenant, r.URL.Query().Get("app"), limit)})
}
