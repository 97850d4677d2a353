//! Fixtures that put another provider in the place of the one that they stand around.

/// Makes a fixture of a type with a `provider` of its own and the fixture `truth`: everything but the
/// provider is the truth's.
macro_rules! fixture_around {
    ($around:ty) => {
        #[cardless_contract::async_trait]
        impl cardless_testkit::cases::sandbox::Fixture for $around {
            fn provider(&self) -> &dyn cardless_contract::PaymentProvider {
                &self.provider
            }

            fn stranger(&self) -> Box<dyn cardless_contract::PaymentProvider> {
                self.truth.stranger()
            }

            async fn decide(
                &self,
                page: &cardless_contract::RedirectUrl,
                decision: cardless_testkit::cases::sandbox::Decision,
            ) {
                self.truth.decide(page, decision).await;
            }

            fn inject(
                &self,
                step: cardless_testkit::cases::sandbox::Step,
                fault: cardless_testkit::cases::sandbox::Fault,
            ) {
                self.truth.inject(step, fault);
            }

            fn advance(&self, by: std::time::Duration) {
                self.truth.advance(by);
            }

            fn movements(&self) -> Vec<cardless_testkit::cases::sandbox::Movement> {
                self.truth.movements()
            }

            fn deliveries(&self) -> Vec<cardless_testkit::cases::sandbox::Delivered> {
                self.truth.deliveries()
            }

            fn sent(&self) -> Vec<cardless_transport::Request> {
                self.truth.sent()
            }

            fn faults(&self) -> Vec<cardless_testkit::judge::Fault> {
                self.truth.faults()
            }
        }
    };
}

pub(crate) use fixture_around;
