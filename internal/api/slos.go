package api

import (
	"fmt"
	"net/http"
	"time"

	"serin.dev/serin/analysis"
	"serin.dev/serin/analysis/verdict"
	"serin.dev/serin/internal/tenant"
)

func (a *API) slos(w http.ResponseWriter, _ *http.Request, e *analysis.Engine, ac tenant.Access) error {
	states := e.SLOs(ac.Tenant, "")
	if states == nil {
		states = []verdict.SLOState{}
	}
	return write(w, http.StatusOK, map[string]any{"slos": states})
}

// slo answers an objective and its states: for all traffic first, then for each group. A
// pipeline reads action there: what the error budget lets it do.
func (a *API) slo(w http.ResponseWriter, r *http.Request, e *analysis.Engine, ac tenant.Access) error {
	o, err := e.Objective(ac.Tenant, r.PathValue("id"))
	if err != nil {
		return err
	}
	states := e.SLOs(ac.Tenant, o.Name)
	answer := map[string]any{"objective": o, "states": states, "action": verdict.Allow}
	for _, s := range states {
		if s.Group == "" {
			answer["action"] = s.Action
		}
	}
	return write(w, http.StatusOK, answer)
}

func (a *API) whoSpent(w http.ResponseWriter, r *http.Request, e *analysis.Engine, ac tenant.Access) error {
	who, err := e.WhoSpent(ac.Tenant, r.PathValue("id"))
	if err != nil {
		return err
	}
	return write(w, http.StatusOK, who)
}

func (a *API) except(w http.ResponseWriter, r *http.Request, e *analysis.Engine, ac tenant.Access) error {
	var body struct {
		Why    string    `json:"why"`
		Action string    `json:"action"`
		Until  time.Time `json:"until"`
	}
	if err := read(w, r, &body); err != nil {
		return err
	}
	var action verdict.Action
	if body.Action != "" && action.UnmarshalText([]byte(body.Action)) != nil {
		return &badRequest{fmt.Sprintf("action: %q: want allow or approval", body.Action)}
	}
	if _, err := e.Objective(ac.Tenant, r.PathValue("id")); err != nil {
		return err
	}
	err := e.Except(r.Context(), ac.Tenant, r.PathValue("id"), verdict.SLOException{Who: ac.Token, Why: body.Why, Action: action, Until: body.Until})
	if err != nil {
		return err
	}
	return a.slo(w, r, e, ac)
}
