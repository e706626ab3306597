package api

import (
	"net/http"
	"time"

	"serin.dev/serin/analysis"
	"serin.dev/serin/analysis/verdict"
	"serin.dev/serin/internal/tenant"
)

func (a *API) slos(w http.ResponseWriter, _ *http.Request, e *analysis.Engine, ac tenant.Access) error {
	all := e.SLOs(ac.Tenant, "")
	if all == nil {
		all = []verdict.SLOState{}
	}
	return write(w, http.StatusOK, map[string]any{"slos": all})
}

func (a *API) slo(w http.ResponseWriter, r *http.Request, e *analysis.Engine, ac tenant.Access) error {
	o, err := e.Objective(ac.Tenant, r.PathValue("id"))
	if err != nil {
		return err
	}
	return write(w, http.StatusOK, map[string]any{"objective": o, "states": e.SLOs(ac.Tenant, o.Name)})
}

func (a *API) who(w http.ResponseWriter, r *http.Request, e *analysis.Engine, ac tenant.Access) error {
	who, err := e.WhoSpent(ac.Tenant, r.PathValue("id"))
	if err != nil {
		return err
	}
	return write(w, http.StatusOK, who)
}

// gate answers whether the error budget lets a pipeline go on. Before the first
// evaluation nothing is known, and a person must agree.
func (a *API) gate(w http.ResponseWriter, r *http.Request, e *analysis.Engine, ac tenant.Access) error {
	o, err := e.Objective(ac.Tenant, r.PathValue("id"))
	if err != nil {
		return err
	}
	answer := struct {
		SLO       string                `json:"slo"`
		Action    verdict.Action        `json:"action"`
		Remaining verdict.Bound         `json:"remaining"`
		Data      verdict.Data          `json:"data"`
		Through   time.Time             `json:"data_through"`
		Exception *verdict.SLOException `json:"exception,omitempty"`
		Sentence  string                `json:"sentence"`
	}{SLO: o.Name, Action: verdict.Approval, Remaining: verdict.Unknown, Data: verdict.PipelineFault, Sentence: o.Name + ": no evaluation yet."}
	for _, s := range e.SLOs(ac.Tenant, o.Name) {
		if s.Group == "" {
			answer.Action, answer.Remaining, answer.Data, answer.Through, answer.Exception, answer.Sentence = s.Action, s.Budget.Remaining, s.Data, s.DataThrough, s.Exception, s.Sentence
		}
	}
	return write(w, http.StatusOK, answer)
}

func (a *API) except(w http.ResponseWriter, r *http.Request, e *analysis.Engine, ac tenant.Access) error {
	var body struct {
		Why    string         `json:"why"`
		Until  time.Time      `json:"until"`
		Action verdict.Action `json:"action"` // default allow
	}
	if err := read(w, r, &body); err != nil {
		return err
	}
	if err := e.Except(r.Context(), ac.Tenant, r.PathValue("id"), verdict.SLOException{Who: ac.Token, Why: body.Why, Until: body.Until, Action: body.Action}); err != nil {
		return err
	}
	return a.gate(w, r, e, ac)
}
