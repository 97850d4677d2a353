//! What the provider answers, by its books and by the faults that it was given.

use super::*;

#[async_trait]
impl PaymentProvider for Fake {
    fn name(&self) -> &ProviderName {
        &self.name
    }

    fn merchant(&self) -> &str {
        if let Some(watch) = &*self.watched.lock().unwrap() {
            // Until the test has seen enough.
            if watch.arrived.send(()).is_ok() {
                watch.go_on.recv().unwrap();
            }
        }
        if self.other_merchant.load(Ordering::Relaxed) {
            "another shop"
        } else {
            "shop"
        }
    }

    fn mode(&self) -> &str {
        if self.other_mode.load(Ordering::Relaxed) {
            "another way"
        } else {
            "one way"
        }
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn calls(&self) -> &'static [ProviderCall] {
        &[]
    }

    fn places(&self) -> Vec<ProviderPlace> {
        self.places.clone()
    }

    async fn probe(&self) -> Result<()> {
        Ok(())
    }

    async fn begin_setup(
        &self,
        key: &IdempotencyKey,
        request: &SetupRequest,
    ) -> Result<Outcome<SetupStarted>> {
        let expires_at = self.clock.now().plus(CUSTOMER_WINDOW);
        let request = request.clone();
        let started = move |state: &mut State| {
            let id = state.id("S");
            state.setups.insert(id.clone(), Setup { progress: "waits" });
            if let Some(payment) = request.payment {
                state.objects.insert(
                    id.clone(),
                    Object {
                        reference: request.reference.as_str().to_owned(),
                        amount: payment.amount,
                        capture: payment.capture,
                        initiator: Initiator::Customer,
                        phase: Phase::AwaitsCustomer,
                        captured: 0,
                        refunded: 0,
                        taken_back: 0,
                        captures: Vec::new(),
                        operations: BTreeMap::new(),
                    },
                );
            }
            SetupStarted {
                redirect: page(&id),
                setup: SetupReference::new(id).unwrap(),
                expires_at,
            }
        };
        let again = started.clone();
        self.call("begin_setup", key.as_str(), started, move |state| {
            Ok(Outcome::Done(again(state)))
        })
        .await
    }

    async fn complete_setup(
        &self,
        key: &IdempotencyKey,
        request: &SetupCompletion,
    ) -> Result<SetupProgress> {
        match self.begin("complete_setup", key.as_str()) {
            None => {}
            Some(Fault::Hang) => std::future::pending().await,
            Some(_) => return Err(self.lost()),
        }
        let id = request.setup.as_str();
        let progress = self.state.lock().unwrap().setups[id].progress;
        Ok(match progress {
            "linked" => SetupProgress::Linked(ProviderToken::new(token_of(id)).unwrap()),
            "declined" => SetupProgress::Declined(Self::decline(false)),
            "no_token" => SetupProgress::NoToken,
            "expired" => SetupProgress::Expired,
            _ => SetupProgress::AwaitingCustomer,
        })
    }

    async fn reserve(
        &self,
        key: &IdempotencyKey,
        token: &ProviderToken,
        request: &PaymentRequest,
        seal: &dyn BodySeal,
    ) -> Result<Outcome<ReservationId>> {
        if self.capabilities.reserve_holds {
            let expiry = self.state.lock().unwrap().expiry;
            let bytes = format!("{key} {} {expiry}", token.expose());
            seal.admit(bytes.as_bytes()).await?;
        }
        let keyed = self.capabilities.repeat_reserve != Repeat::AfterQuestion;
        let holds = self.capabilities.reserve_holds;
        let asks = self.capabilities.page_moves_money || self.asks_at_reserve;
        let (key, request) = (key.as_str().to_owned(), request.clone());
        let note = format!("{} {key}", request.reference);
        let make = move |state: &mut State| {
            if let Some(id) = state.reserved_by_key.get(&key).filter(|_| keyed) {
                return id.clone();
            }
            let id = state.id("R");
            let page = asks && request.initiator == Initiator::Customer;
            state.reserved_by_key.insert(key, id.clone());
            state.objects.insert(
                id.clone(),
                Object {
                    reference: request.reference.as_str().to_owned(),
                    amount: request.amount,
                    capture: request.capture,
                    initiator: request.initiator,
                    phase: if page {
                        Phase::AwaitsCustomer
                    } else {
                        Phase::Created
                    },
                    captured: 0,
                    refunded: 0,
                    taken_back: 0,
                    captures: Vec::new(),
                    operations: BTreeMap::new(),
                },
            );
            if holds && !page {
                state.take(&id, false);
            }
            id
        };
        let pending = make.clone();
        self.call(
            "reserve",
            &note,
            move |state| ReservationId::new(pending(state)).unwrap(),
            move |state| {
                let id = make(state);
                let waits = state.objects[&id].phase == Phase::AwaitsCustomer;
                let reservation = ReservationId::new(id.clone()).unwrap();
                Ok(if waits {
                    Outcome::ActionRequired(reservation, page(&id))
                } else {
                    Outcome::Done(reservation)
                })
            },
        )
        .await
    }

    async fn commit(
        &self,
        key: &IdempotencyKey,
        _token: &ProviderToken,
        request: &CommitRequest,
    ) -> Result<Outcome<Payment>> {
        let id = request.reservation.as_str().to_owned();
        let holds = self.capabilities.reserve_holds;
        let takes = self.capabilities.page_moves_money;
        let working = id.clone();
        let ran = self
            .call(
                "commit",
                &format!("{id} {}", key.as_str()),
                move |state| {
                    let object = state.objects.get_mut(&working).unwrap();
                    if matches!(object.phase, Phase::Created | Phase::Approved) {
                        object.phase = Phase::Working;
                    }
                    working.clone()
                },
                move |state| {
                    let object = state.objects[&id].clone();
                    let automatic = object.capture == CaptureMode::Automatic;
                    match object.phase {
                        Phase::Created if object.initiator == Initiator::Customer && !takes => {
                            state.objects.get_mut(&id).unwrap().phase = Phase::AwaitsCustomer;
                        }
                        Phase::Created | Phase::Approved => state.take(&id, automatic),
                        Phase::Held if holds && automatic => state.take(&id, true),
                        Phase::Held | Phase::Taken | Phase::AwaitsCustomer | Phase::Working => {}
                        Phase::Released | Phase::Lapsed | Phase::Refused => {
                            return Err(ErrorKind::Conflict);
                        }
                    }
                    Ok(Outcome::Done(id))
                },
            )
            .await?;
        let (read, pending) = match ran {
            Outcome::Done(id) => (id, false),
            Outcome::Pending(id) => (id, true),
            Outcome::Declined(decline) => return Ok(Outcome::Declined(decline)),
            Outcome::Unmapped(word) => return Ok(Outcome::Unmapped(word)),
            Outcome::ActionRequired(id, url) => {
                let object = self.state.lock().unwrap().objects[&id].clone();
                let (Outcome::Done(payment) | Outcome::Pending(payment)) = self.seen(&id, &object)
                else {
                    return Err(self.lost());
                };
                return Ok(Outcome::ActionRequired(payment, url));
            }
            Outcome::Review(id) => {
                let object = self.state.lock().unwrap().objects[&id].clone();
                return Ok(match self.seen(&id, &object) {
                    Outcome::Done(payment) | Outcome::Pending(payment) => Outcome::Review(payment),
                    other => other,
                });
            }
        };
        let object = self.state.lock().unwrap().objects[&read].clone();
        let seen = self.seen(&read, &object);
        Ok(match seen {
            Outcome::Done(payment) if pending => Outcome::Pending(payment),
            other => other,
        })
    }

    async fn capture(
        &self,
        key: &IdempotencyKey,
        request: &CaptureRequest,
    ) -> Result<Outcome<Operation>> {
        let amount = request.amount.minor();
        let kind = OperationKind::Capture;
        self.operate(
            "capture",
            key,
            &request.reservation,
            kind,
            amount,
            request.last,
        )
        .await
    }

    async fn void(
        &self,
        key: &IdempotencyKey,
        request: &VoidRequest,
    ) -> Result<Outcome<Operation>> {
        let amount = request.authorized.minor();
        let kind = OperationKind::Void;
        self.operate("void", key, &request.reservation, kind, amount, true)
            .await
    }

    async fn refund(
        &self,
        key: &IdempotencyKey,
        request: &RefundRequest,
    ) -> Result<Outcome<Operation>> {
        assert_eq!(
            request.capture.is_some(),
            self.capabilities.refund_per_capture
        );
        if let Some(capture) = &request.capture {
            // No capture gives back more than it took.
            let state = self.state.lock().unwrap();
            let object = &state.objects[request.reservation.as_str()];
            let mut captures = object.captures.iter();
            let took = captures.find(|(id, _)| id == capture.as_str());
            assert!(took.unwrap().1 >= request.amount.minor(), "{capture:?}");
        }
        let amount = request.amount.minor();
        let kind = OperationKind::Refund;
        self.operate("refund", key, &request.reservation, kind, amount, false)
            .await
    }

    async fn lookup(&self, request: &LookupRequest) -> Result<Outcome<Payment>> {
        let id = request.reservation.as_str();
        let fault = self.begin("lookup", id);
        let mut object = match self.state.lock().unwrap().objects.get(id) {
            Some(object) => object.clone(),
            None => return Err(self.error(ErrorKind::NotFound, Delivery::Refused)),
        };
        match fault {
            None => {}
            Some(Fault::Stale) => {
                // A read lags behind, but not for longer than the longest delay.
                let since = self.clock.now().since(self.state.lock().unwrap().asked_at);
                if since < Duration::from_secs(60) {
                    object.phase = Phase::Created;
                }
            }
            Some(Fault::Unmapped) => {
                return Ok(Outcome::Unmapped(Unmapped::new("status", "NEW_WORD")));
            }
            Some(Fault::Declined) => return Ok(Outcome::Declined(Self::decline(false))),
            Some(Fault::Wait(gate)) => gate.notified().await,
            Some(Fault::Hang | Fault::HangAfter) => std::future::pending().await,
            Some(Fault::Review) => {
                return Ok(match self.seen(id, &object) {
                    Outcome::Done(payment) | Outcome::Pending(payment) => Outcome::Review(payment),
                    other => other,
                });
            }
            Some(Fault::Refused) => return Err(self.error(ErrorKind::NotFound, Delivery::Refused)),
            Some(_) => return Err(self.lost()),
        }
        Ok(self.seen(id, &object))
    }

    async fn find(&self, reference: &Reference) -> Result<Found<ReservationId>> {
        match self.begin("find", reference.as_str()) {
            None => {}
            Some(Fault::Refused) => return Ok(Found::CannotTell),
            Some(_) => return Err(self.lost()),
        }
        if !self.capabilities.find_by_reference {
            return Ok(Found::CannotTell);
        }
        let state = self.state.lock().unwrap();
        let mut of = state
            .objects
            .iter()
            .filter(|(_, object)| object.reference == reference.as_str());
        Ok(match (of.next(), of.next()) {
            (None, _) => Found::No,
            (Some((id, _)), None) => Found::Yes(ReservationId::new(id.clone()).unwrap()),
            (Some(_), Some(_)) => return Err(self.error(ErrorKind::Conflict, Delivery::Unknown)),
        })
    }

    async fn find_operation(
        &self,
        key: &IdempotencyKey,
        request: &OperationLookup,
    ) -> Result<Found<Outcome<Operation>>> {
        let gate = match self.begin("find_operation", key.as_str()) {
            None => None,
            Some(Fault::Wait(gate)) => Some(gate),
            Some(Fault::WaitOnTheWay(gate)) => {
                gate.notified().await;
                None
            }
            Some(Fault::Unmapped) => {
                let word = Unmapped::new("refund.status", "NEW_WORD");
                return Ok(Found::Yes(Outcome::Unmapped(word)));
            }
            Some(Fault::Refused) => return Ok(Found::CannotTell),
            Some(Fault::Absent) => return Ok(Found::No),
            Some(Fault::Declined) => {
                return Ok(Found::Yes(Outcome::Declined(Self::decline(false))));
            }
            Some(Fault::OtherAmount) => {
                return Ok(Found::Yes(Outcome::Done(Operation {
                    id: None,
                    amount: request.amount.plus(request.amount).ok(),
                })));
            }
            Some(_) => return Err(self.lost()),
        };
        let id = request.reservation.as_str();
        let object = self.state.lock().unwrap().objects[id].clone();
        if let Some(gate) = gate {
            // What it saw is on its way.
            gate.notified().await;
        }
        if self.capabilities.reserve_holds {
            return Ok(by_sum(&object, request));
        }
        Ok(match object.operations.get(key.as_str()) {
            None => Found::No,
            Some(done) => {
                let operation = Operation {
                    id: Some(ObjectId::new(done.id.clone()).unwrap()),
                    amount: None,
                };
                Found::Yes(if done.pending {
                    Outcome::Pending(operation)
                } else {
                    Outcome::Done(operation)
                })
            }
        })
    }

    async fn payment_of(
        &self,
        kind: OperationKind,
        object: &ObjectId,
    ) -> Result<Option<ReservationId>> {
        match self.begin("payment_of", object.as_str()) {
            None => {}
            Some(Fault::NotSent) => {
                return Err(self.error(ErrorKind::Unreachable, Delivery::NotSent));
            }
            Some(Fault::Refused) => {
                return Err(self.error(ErrorKind::InvalidRequest, Delivery::Refused));
            }
            Some(_) => return Err(self.lost()),
        }
        let state = self.state.lock().unwrap();
        let has = |held: &Object| {
            let mut operations = held.operations.values();
            operations.any(|done| done.kind == kind && done.id == object.as_str())
        };
        let mut objects = state.objects.iter();
        let found = objects.find(|(_, held)| has(held));
        Ok(found.map(|(id, _)| ReservationId::new(id.clone()).unwrap()))
    }

    async fn revoke(&self, token: &ProviderToken) -> Result<()> {
        let fault = self.begin("revoke", "");
        match fault {
            None | Some(Fault::LostAfter | Fault::HangAfter) => {}
            Some(Fault::Hang) => std::future::pending().await,
            Some(_) => return Err(self.lost()),
        }
        let gone = {
            let mut state = self.state.lock().unwrap();
            let known = token.expose().to_owned();
            let gone = state.revoked.contains(&known);
            if !gone {
                state.revoked.push(known);
            }
            gone
        };
        match fault {
            Some(Fault::HangAfter) => std::future::pending().await,
            Some(Fault::LostAfter) => Err(self.lost()),
            _ if gone => Err(self.error(ErrorKind::NotFound, Delivery::Refused)),
            _ => Ok(()),
        }
    }

    fn token_kind(&self) -> &'static str {
        "plain"
    }

    fn check_token(&self, token: &ProviderToken) -> std::result::Result<(), TokenFault> {
        let shown = token.expose();
        if shown.starts_with("old-") {
            return Err(TokenFault::RevealsDigits);
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let fits = shown.bytes().all(plain);
        fits.then_some(()).ok_or(TokenFault::Shape)
    }

    async fn verify_notification(
        &self,
        delivery: &RawNotification<'_>,
    ) -> std::result::Result<Notification, NotificationError> {
        // The body is `event reservation`, or `event kind/operation`.
        let body = std::str::from_utf8(delivery.body).map_err(|_| NotificationError::Signature)?;
        let (event, id) = body.split_once(' ').ok_or(NotificationError::Signature)?;
        let operation = |kind, object| Subject::Operation {
            kind,
            object: ObjectId::new(object).unwrap(),
        };
        let subject = match id.split_once('/') {
            Some(("capture", object)) => operation(OperationKind::Capture, object),
            Some(("void", object)) => operation(OperationKind::Void, object),
            Some((_, object)) => operation(OperationKind::Refund, object),
            None => Subject::Payment {
                reservation: Some(ReservationId::new(id).unwrap()),
                reference: None,
                object: None,
            },
        };
        Ok(Notification {
            event_id: event.to_owned(),
            subject,
        })
    }
}

/// All that a provider tells which shows sums only.
fn by_sum(object: &Object, request: &OperationLookup) -> Found<Outcome<Operation>> {
    let yes = Found::Yes(Outcome::Done(Operation {
        id: None,
        amount: None,
    }));
    let (sum, before) = match request.kind {
        OperationKind::Void if matches!(object.phase, Phase::Released | Phase::Lapsed) => {
            return yes;
        }
        OperationKind::Void => return Found::No,
        OperationKind::Capture => (object.captured, request.settled_before.minor()),
        OperationKind::Refund => (object.refunded, request.settled_before.minor()),
    };
    if sum == before + request.amount.minor() {
        yes
    } else if sum == before {
        Found::No
    } else {
        Found::CannotTell
    }
}
