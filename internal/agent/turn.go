package agent

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/turns"
)

// askTurn asks whether few enough services fail over now. Where that cannot be found out, nothing limits: who cannot reach the API server cannot take over
// anyway, and a register that is not there must not keep a service without a primary.
func (a *Agent) askTurn(action failover.Action) {
	if a.doing.is(failover.AskTurn) {
		return
	}
	done := a.doing.begin(failover.AskTurn)
	terms := a.obs.Lease.Terms
	mine := turns.Turn{Service: a.turnOf(terms), Group: terms.TurnsOf, Epoch: int64(action.Epoch), At: a.World.Wall()}
	limits := turns.Limits{All: terms.Turns, Group: terms.GroupTurns, Leave: action.Leave, GroupLeave: action.GroupLeave}
	a.turn = turnAsked{register: terms.TurnsIn, name: mine.Service}
	var answer turns.Answer
	var err error
	a.World.Beside(apiTimeout, func(ctx context.Context) {
		answer, err = a.Kube.TakeTurn(ctx, terms.TurnsIn, mine, limits)
	}, func() {
		done()
		if err != nil {
			a.Log.Info("How many services fail over now is not known; this one does not wait for them", "why", err.Error())
			answer.Taken = true
		}
		a.obs.OnTurn(failover.Turn{Epoch: action.Epoch, Taken: answer.Taken, At: a.now(), Others: answer.Others})
	})
}

// turnAsked is where a turn was asked for, and under which name.
type turnAsked struct{ register, name string }

// turnOf is what the service is called among those that share a Lease of turns: with its namespace where that is another one's.
func (a *Agent) turnOf(terms failover.Terms) string {
	if !strings.Contains(terms.TurnsIn, "/") {
		return a.Config.Service
	}
	return a.Config.Namespace + "/" + a.Config.Service
}

// endTurn lets the next service fail over. One that could not be ended counts until it is old.
func (a *Agent) endTurn(epoch failover.Epoch) {
	t, asked := a.obs.Turn, a.turn // the terms may be others by now
	if !t.Taken || t.Epoch != epoch {
		return
	}
	a.obs.OnTurn(failover.Turn{})
	a.World.Beside(apiTimeout, func(ctx context.Context) {
		if err := a.Kube.EndTurn(ctx, asked.register, asked.name, int64(epoch)); err != nil {
			a.Log.Info("The turn to fail over was not ended; it counts until it is old", "after", turns.Lasts, "why", err.Error())
		}
	}, func() {})
}

// TakeTurn implements Kube.
func (k *kube) TakeTurn(ctx context.Context, register string, mine turns.Turn, limits turns.Limits) (answer turns.Answer, err error) {
	err = k.changeTurns(ctx, register, func(held []turns.Turn) (next []turns.Turn, changed bool) {
		next, answer, changed = turns.Take(held, mine, limits)
		return next, changed
	})
	return answer, err
}

// EndTurn implements Kube.
func (k *kube) EndTurn(ctx context.Context, register, service string, epoch int64) error {
	return k.changeTurns(ctx, register, func(held []turns.Turn) ([]turns.Turn, bool) { return turns.End(held, service, epoch) })
}

// changeTurns changes the turns as often as somebody else was faster, until the context ends.
func (k *kube) changeTurns(ctx context.Context, register string, change func([]turns.Turn) ([]turns.Turn, bool)) error {
	namespace, name := k.namespace, register
	if elsewhere, rest, ok := strings.Cut(register, "/"); ok {
		namespace, name = elsewhere, rest
	}
	for {
		obj := &coordinationv1.Lease{}
		if err := k.coordination.Get().Namespace(namespace).Resource("leases").Name(name).Do(ctx).Into(obj); err != nil {
			return fmt.Errorf("reading Lease %s/%s: %w", namespace, name, err)
		}
		next, changed := change(turns.Read(obj))
		if !changed {
			return nil
		}
		if err := turns.Write(obj, next); err != nil {
			return err
		}
		err := k.coordination.Put().Namespace(namespace).Resource("leases").Name(name).Body(obj).Do(ctx).Error()
		if err == nil {
			return nil
		}
		if !apierrors.IsConflict(err) {
			return fmt.Errorf("writing Lease %s/%s: %w", namespace, name, err)
		}
		select { // others of the storm write too
		case <-ctx.Done():
			return fmt.Errorf("writing Lease %s/%s: %w", namespace, name, ctx.Err())
		case <-time.After(time.Duration(5+rand.IntN(20)) * time.Millisecond):
		}
	}
}
