package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"go.mau.fi/util/jsontime"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/crypto/verificationhelper"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

const verificationsExpireAfter = 10 * time.Minute

// verify requests an emoji verification of a user, to-device or in a room.
func (p *phone) verify(ctx context.Context, userID id.UserID, roomID id.RoomID) (any, error) {
	// Refresh the devices, because a request is sent to each of them.
	_, err := p.machine.FetchKeys(ctx, []id.UserID{userID}, true)
	if err != nil {
		return nil, err
	}
	p.asking.Lock()
	defer p.asking.Unlock()
	var transaction id.VerificationTransactionID
	if roomID == "" {
		transaction, err = p.helper.StartVerification(ctx, userID)
	} else {
		transaction, err = p.verifyInRoom(ctx, userID, roomID)
	}
	return map[string]any{"transactionId": transaction}, err
}

// verifyInRoom requests a verification in a room. The helper's own request would be encrypted twice and so unreadable.
func (p *phone) verifyInRoom(ctx context.Context, userID id.UserID, roomID id.RoomID) (id.VerificationTransactionID, error) {
	sent, err := p.client.SendMessageEvent(ctx, roomID, event.EventMessage, &event.MessageEventContent{
		MsgType:    event.MsgVerificationRequest,
		Body:       "Let us compare emojis.",
		FromDevice: p.client.DeviceID,
		Methods:    []event.VerificationMethod{event.VerificationMethodSAS},
		To:         userID,
	})
	if err != nil {
		return "", err
	}
	transaction := id.VerificationTransactionID(sent.EventID)
	return transaction, p.asked.SaveVerificationTransaction(ctx, verificationhelper.VerificationTransaction{
		ExpirationTime:    jsontime.UM(time.Now().Add(verificationsExpireAfter)),
		RoomID:            roomID,
		VerificationState: verificationhelper.VerificationStateRequested,
		TransactionID:     transaction,
		TheirUserID:       userID,
	})
}

// heldMACs holds the other side's MACs of verifications that we haven't confirmed yet. The helper would compare them
// with our own keys; once we have confirmed, it compares them with the other side's.
type heldMACs struct {
	lock      sync.Mutex
	confirmed map[id.VerificationTransactionID]bool
	waiting   map[id.VerificationTransactionID]func()
}

// OnEventType registers a handler. Events that arrive before the verification helper expects them are held.
func (p *phone) OnEventType(eventType event.Type, handler mautrix.EventHandler) {
	switch eventType {
	case event.ToDeviceVerificationReady, event.InRoomVerificationReady:
		handler = p.afterAsking(handler)
	case event.ToDeviceVerificationMAC, event.InRoomVerificationMAC:
		handler = p.afterConfirming(handler)
	}
	p.DefaultSyncer.OnEventType(eventType, handler)
}

func (p *phone) afterAsking(handler mautrix.EventHandler) mautrix.EventHandler {
	return func(ctx context.Context, evt *event.Event) {
		p.asking.Lock()
		p.asking.Unlock() // we only waited for its turn
		handler(ctx, evt)
	}
}

func (p *phone) afterConfirming(handler mautrix.EventHandler) mautrix.EventHandler {
	return func(ctx context.Context, evt *event.Event) {
		transaction := id.VerificationTransactionID(evt.ID)
		if toDevice, ok := evt.Content.Parsed.(event.VerificationTransactionable); ok && transaction == "" {
			transaction = toDevice.GetTransactionID()
		}
		p.macs.lock.Lock()
		defer p.macs.lock.Unlock()
		if p.macs.confirmed[transaction] {
			handler(ctx, evt)
		} else {
			p.macs.waiting[transaction] = func() { handler(ctx, evt) }
		}
	}
}

func (p *phone) confirmEmojis(ctx context.Context, transaction id.VerificationTransactionID) error {
	if err := p.helper.ConfirmSAS(ctx, transaction); err != nil {
		return err
	}
	p.macs.lock.Lock()
	defer p.macs.lock.Unlock()
	p.macs.confirmed[transaction] = true
	if handle := p.macs.waiting[transaction]; handle != nil {
		handle()
	}
	return nil
}

// verificationNews reports the steps of verifications.
type verificationNews struct{ phone *phone }

var _ verificationhelper.RequiredCallbacks = verificationNews{}
var _ verificationhelper.ShowSASCallbacks = verificationNews{}

func (n verificationNews) tell(transaction id.VerificationTransactionID, step string, more map[string]any) {
	news := map[string]any{"transactionId": transaction, "step": step}
	for key, value := range more {
		news[key] = value
	}
	tell(map[string]any{"person": n.phone.name, "verification": news})
}

// VerificationRequested accepts a request if told to. Otherwise it ignores it: another device of the user may accept.
func (n verificationNews) VerificationRequested(ctx context.Context, transaction id.VerificationTransactionID, _ id.UserID, _ id.DeviceID) {
	act := n.phone.helper.DismissVerification
	if n.phone.accepts.Load() {
		act = n.phone.helper.AcceptVerification
	}
	if err := act(ctx, transaction); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", n.phone.name, err)
	}
}

func (n verificationNews) VerificationReady(_ context.Context, transaction id.VerificationTransactionID, _ id.DeviceID, _, _ bool, _ *verificationhelper.QRCode) {
	n.tell(transaction, "ready", nil)
}

func (n verificationNews) ShowSAS(_ context.Context, transaction id.VerificationTransactionID, emojis []rune, descriptions []string, _ []int) {
	symbols := make([]string, len(emojis))
	for index, emoji := range emojis {
		symbols[index] = string(emoji)
	}
	n.tell(transaction, "emojis", map[string]any{"emojis": symbols, "descriptions": descriptions})
}

func (n verificationNews) VerificationCancelled(_ context.Context, transaction id.VerificationTransactionID, code event.VerificationCancelCode, reason string) {
	n.tell(transaction, "cancelled", map[string]any{"code": code, "reason": reason})
}

func (n verificationNews) VerificationDone(_ context.Context, transaction id.VerificationTransactionID, _ event.VerificationMethod) {
	n.tell(transaction, "done", nil)
}
